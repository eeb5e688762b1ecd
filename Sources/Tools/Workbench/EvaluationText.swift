public import Lathe
public import LatheFormat

/// A text as a model reads it.
public struct EvaluationText: Sendable {
    /// The text's, or the first of them.
    public let tokens: [Int32]
    private let maximumTokens: Int?
    private let bytes: [UInt8]
    private let tokenizer: Tokenizer

    /// - Parameters:
    ///   - source: the text's file, for messages.
    ///   - maximumTokens: the first so many tokens are taken; nil: all.
    /// - Throws: `invalidRequest` for a text of fewer than two tokens, which has nothing to predict, or that is not
    ///   UTF-8.
    public init(
        _ bytes: [UInt8], tokenizer: Tokenizer, source: String, maximumTokens: Int? = nil
    ) throws(LatheError) {
        guard !bytes.isEmpty else {
            throw LatheError(.invalidRequest, "\(quoted(source)) is empty: there is no text to evaluate.")
        }
        if let maximumTokens, maximumTokens < 2 {
            throw LatheError(
                .invalidRequest, "\(maximumTokens) tokens of the text were asked for; at least 2 are needed.")
        }
        let all = try tokenizer.encode(bytes: bytes)
        tokens = Array(all.prefix(maximumTokens ?? all.count))
        self.maximumTokens = maximumTokens
        guard tokens.count >= 2 else {
            throw LatheError(
                .invalidRequest,
                """
                \(quoted(source)) is \(tokens.count) token long; a token is predicted from those before it, so a text \
                of 2 tokens at least is needed.
                """)
        }
        self.bytes = bytes
        self.tokenizer = tokenizer
    }

    /// The tokens into which another tokenizer cuts the text.
    package func tokens(by other: Tokenizer) throws(LatheError) -> [Int32] {
        let all = try other.encode(bytes: bytes)
        return Array(all.prefix(maximumTokens ?? all.count))
    }

    /// The tokens as bytes, for hashing.
    package var tokenBytes: ByteView {
        ByteView(copying: tokens.flatMap { token in (0..<4).map { UInt8(truncatingIfNeeded: token >> (8 * $0)) } })
    }

    /// Bytes that some of the tokens stand for.
    package func byteCount(of ranges: [Range<Int>]) throws(LatheError) -> Int {
        var count = 0
        for range in ranges { count += try tokenizer.decodeBytes(Array(tokens[range])).count }
        return count
    }

    /// The text of the tokens around `index`, with that token between the marks: for people.
    package func excerpt(around index: Int, context: Int = 12, marks: (String, String)) -> String {
        func text(_ range: Range<Int>) -> String {
            let clamped = range.clamped(to: tokens.indices)
            return (try? tokenizer.decode(Array(tokens[clamped]))) ?? ""
        }
        return text(index - context..<index) + marks.0 + text(index..<index + 1) + marks.1
            + text(index + 1..<index + 1 + context)
    }
}
