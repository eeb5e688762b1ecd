import Lathe
import LatheFormat
import Synchronization

/// Everything about an engine that no result may depend on.
struct Run: Hashable, CustomStringConvertible, Sendable {
    var instructionSet: String = InstructionSet.available.last!.name
    var threads = 1
    var chunk = 512
    var keyValueType = KeyValueType.float32
    var sessions = 1

    var description: String {
        "\(instructionSet), \(threads) threads, chunk \(chunk), KV \(keyValueType.rawValue), \(sessions) sessions"
    }

    func engine(_ model: Model, contextLength: Int? = nil) throws -> Engine {
        var options = EngineOptions()
        options.instructionSet = instructionSet
        options.threads = threads
        options.prefillChunk = chunk
        options.keyValueType = keyValueType
        options.maximumSessions = sessions
        options.contextLength = contextLength
        return try Engine(model: model, options: options)
    }
}

/// What `Session.score` hands to its observer, kept.
final class LogitsRecorder: Sendable {
    private let recorded = Mutex<[[Float]]>([])

    /// The logits after each token.
    var rows: [[Float]] { recorded.withLock { $0 } }
    var bits: [[UInt32]] { rows.map { $0.map(\.bitPattern) } }

    @Sendable func record(_ index: Int, _ logits: Span<Float>) {
        let row = logits.indices.map { logits[$0] }
        recorded.withLock { rows in
            precondition(rows.count == index, "logits come in order")
            rows.append(row)
        }
    }
}

extension Session {
    /// Scores `tokens` and gives the logits after each.
    func logits(_ tokens: [Int32]) async throws -> (scores: [TokenScore], logits: [[Float]]) {
        let recorder = LogitsRecorder()
        let scores = try await score(tokens, onLogits: recorder.record)
        return (scores, recorder.rows)
    }

    func all(_ prompt: [Int32], _ options: GenerationOptions) async throws -> [GeneratedToken] {
        var tokens: [GeneratedToken] = []
        for try await token in try generate(prompt, options: options) { tokens.append(token) }
        return tokens
    }
}

extension Engine {
    /// The bits of the logits after each of `tokens`, by a session of its own.
    func logitBits(_ tokens: [Int32]) async throws -> [[UInt32]] {
        try await makeSession().logits(tokens).logits.map { $0.map(\.bitPattern) }
    }
}

extension GenerationOptions {
    init(_ maximumTokens: Int, _ change: (inout GenerationOptions) -> Void = { _ in }) {
        self.init()
        self.maximumTokens = maximumTokens
        ignoresEndOfText = true
        change(&self)
    }
}

/// The first place where two tables of bits differ, or nil.
func firstDifference(_ a: [[UInt32]], _ b: [[UInt32]]) -> String? {
    guard a.count == b.count else { return "\(a.count) rows against \(b.count)" }
    for (row, (a, b)) in zip(a, b).enumerated() where a != b {
        let column = zip(a, b).enumerated().first { $1.0 != $1.1 }.map { $0.offset }
        return "row \(row), column \(column.map(String.init) ?? "none: the rows have different lengths")"
    }
    return nil
}
