public import LatheFormat
import Synchronization

/// Writes logits as they are computed: one F32 tensor `logits` `[tokens, vocabulary]`, unpadded.
public final class LogitsWriter: Sendable {
    private struct State {
        var writer: SafetensorsWriter
        var failure: LatheError?
    }
    private let state: Mutex<State>

    public init(path: String, tokens: Int, vocabularySize: Int) throws(LatheError) {
        let writer = try SafetensorsWriter(
            .path(path), tensors: [.init(name: "logits", dtype: .f32, shape: [tokens, vocabularySize])])
        state = Mutex(State(writer: writer))
    }

    /// For `Session.score(onLogits:)`; rows come in order. A failure to write is kept for `finish`.
    public func receive(_ index: Int, _ logits: Span<Float>) {
        let row = ByteView(copying: logits)
        state.withLock { state in
            guard state.failure == nil else { return }
            do throws(LatheError) { try state.writer.write(row) } catch { state.failure = error }
        }
    }

    public func finish() throws(LatheError) {
        let failure: LatheError? = state.withLock { state in
            if let failure = state.failure { return failure }
            do throws(LatheError) {
                _ = try state.writer.finish()
                return nil
            } catch { return error }
        }
        if let failure { throw failure }
    }
}
