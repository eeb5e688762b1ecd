import Lathe
import LatheCompiler
public import LatheFormat

/// The float32 model that others are compared with, on one text.
public final class EvaluationReference {
    private let path: String
    private let reference: Reference
    private let threads: Int
    /// The head's input rows of counted tokens, kept while there is room: a sweep asks for the same ones again and again.
    private var kept: [EvaluationWindow: FloatMatrix] = [:]
    private var keptText: [Int32] = []
    private var keptBytes = 0
    private static let keptLimit = 192 << 20
    /// Values of one pass are [tokens, 4 · width] and smaller, a few at once.
    private static let passBytes = 64 << 20

    /// - Parameters:
    ///   - path: a checkpoint folder.
    ///   - threads: nil: what affinity, CPU quota and cores allow.
    /// - Throws: `missing` where the folder is no checkpoint or OpenBLAS is not installed.
    public init(checkpoint path: String, threads: Int?) throws(LatheError) {
        self.path = path
        self.threads = try ThreadCount(requested: threads).count
        reference = try Reference(checkpoint: try Checkpoint(path: path, access: .read), threads: self.threads)
    }

    /// Checks that the reference sees the text as `model` does.
    ///
    /// - Throws: `invalidRequest` where vocabulary, context or tokenization differ.
    func check(_ model: Model, _ text: EvaluationText, _ windows: EvaluationWindows) throws(LatheError) {
        let vocabulary = reference.configuration.vocabularySize
        guard vocabulary == model.configuration.vocabularySize else {
            throw LatheError(
                .invalidRequest,
                """
                \(quoted(path)) has a vocabulary of \(vocabulary) tokens, the model one of \
                \(model.configuration.vocabularySize): give the checkpoint that the model was made of.
                """)
        }
        guard windows.length <= reference.configuration.contextLength else {
            throw LatheError(
                .invalidRequest,
                """
                \(quoted(path)) has a context of \(reference.configuration.contextLength) tokens; ask for windows no \
                longer than that, not \(windows.length).
                """)
        }
        if let tables = try TokenizerCompiler.compile(folder: path),
            try text.tokens(by: try Tokenizer(tables: tables, source: path)) != text.tokens
        {
            throw LatheError(
                .invalidRequest,
                "\(quoted(path)) cuts the text into other tokens than the model does: their tokenizers differ.")
        }
    }

    /// How many of `windows` one pass should take: as many as fit its memory, one at least. Each pass reads all weights.
    func passCount(_ windows: ArraySlice<EvaluationWindow>) -> Int {
        let tokenBytes = 4 * 4 * reference.configuration.width
        var bytes = 0
        var count = 0
        for window in windows {
            bytes += window.tokens.count * tokenBytes
            if count > 0 && bytes > Self.passBytes { break }
            count += 1
        }
        return count
    }

    /// For each window, the head's input rows that its counted tokens are predicted from.
    func hidden(
        _ windows: ArraySlice<EvaluationWindow>, of text: EvaluationText, progress: (Double) -> Void
    ) throws(LatheError) -> [FloatMatrix] {
        if text.tokens != keptText { (kept, keptText, keptBytes) = ([:], text.tokens, 0) }
        let missing = windows.filter { kept[$0] == nil }
        var computed: [EvaluationWindow: FloatMatrix] = [:]
        if !missing.isEmpty {
            let rows = try reference.run(missing.map { Array(text.tokens[$0.tokens]) }, progress: progress) { _ in nil }
            var start = 0
            for window in missing {
                let first = (start + window.firstCounted - 1) * rows.columns
                let end = (start + window.tokens.count - 1) * rows.columns
                let part = FloatMatrix(
                    rows: window.countedTokens.count, columns: rows.columns, elements: Array(rows.elements[first..<end])
                )
                computed[window] = part
                let bytes = part.elements.count * 4
                if keptBytes + bytes <= Self.keptLimit {
                    kept[window] = part
                    keptBytes += bytes
                }
                start += window.tokens.count
            }
        }
        return windows.map { kept[$0] ?? computed[$0]! }
    }

    /// Compares the model's logits of one window with the reference's, a block of rows at a time.
    ///
    /// - Parameters:
    ///   - hidden: as `hidden` gave it.
    ///   - logits: the model's [rows, vocabulary].
    ///   - tokens: those that the text has.
    func compare(
        _ hidden: FloatMatrix, _ logits: RecordedLogits, tokens: [Int32]
    ) async throws -> [Divergence] {
        let rows = max(1, Self.blockBytes / 4 / logits.vocabularySize)
        var result: [Divergence] = []
        for start in stride(from: 0, to: hidden.rows, by: rows) {
            let block = start..<min(start + rows, hidden.rows)
            let expected = try reference.logits(hidden, rows: block)
            let threads = threads
            result += await withTaskGroup(of: (Int, [Divergence]).self) { group in
                for thread in 0..<threads {
                    let share = block.count * thread / threads..<block.count * (thread + 1) / threads
                    group.addTask {
                        (thread, share.map { Self.compare(expected, row: $0, logits, row: start + $0, tokens) })
                    }
                }
                return await group.reduce(into: Array(repeating: [], count: threads)) { $0[$1.0] = $1.1 }.flatMap { $0 }
            }
        }
        return result
    }

    private static let blockBytes = 32 << 20

    private static func compare(
        _ expected: FloatMatrix, row: Int, _ logits: RecordedLogits, row modelRow: Int, _ tokens: [Int32]
    ) -> Divergence {
        let vocabulary = logits.vocabularySize
        let reference = expected.elements.span.extracting(row * vocabulary..<(row + 1) * vocabulary)
        return logits.withRow(modelRow) { model in
            Divergence(reference: reference, model: model, token: Int(tokens[modelRow]))
        }
    }
}

/// The logits of a window's counted tokens, as the engine computes them.
final class RecordedLogits: Sendable {
    let vocabularySize: Int
    private let firstRow: Int
    // Written by the compute thread while the window is scored, read after that.
    private let buffer: AlignedBuffer

    /// - Parameter firstRow: the token of the window after which the first logits stand.
    init(firstRow: Int, rows: Int, vocabularySize: Int) throws(LatheError) {
        self.vocabularySize = vocabularySize
        self.firstRow = firstRow
        guard let buffer = AlignedBuffer(ifAvailable: rows * vocabularySize * 4) else {
            throw LatheError(
                .io,
                "There is no memory for \(rows) rows of \(vocabularySize) logits; ask for a smaller --window.")
        }
        self.buffer = buffer
    }

    /// For `Session.score(onLogits:)`.
    @Sendable func receive(_ index: Int, _ logits: Span<Float>) {
        let start = (index - firstRow) * vocabularySize
        buffer.withMutableSpan(of: Float.self) { all in
            precondition(start >= 0 && logits.count == vocabularySize && start <= all.count - vocabularySize)
            for index in logits.indices { all[start + index] = logits[index] }
        }
    }

    func withRow<R>(_ row: Int, _ body: (Span<Float>) -> R) -> R {
        buffer.view.withSpan(of: Float.self) {
            body($0.extracting(row * vocabularySize..<(row + 1) * vocabularySize))
        }
    }
}
