public import LatheFormat

/// A part of a text that the model sees at once, and which of its tokens count.
package struct EvaluationWindow: Hashable, Sendable {
    /// Tokens of the text.
    package let tokens: Range<Int>
    /// The first token, counted from the window's start, whose log-probability counts: at least 1. Those before it are
    /// context alone.
    package let firstCounted: Int

    package var countedTokens: Range<Int> { tokens.lowerBound + firstCounted..<tokens.upperBound }
}

/// How a text longer than the context is cut: overlapping windows, each token counted once.
///
/// The sliding window of Hugging Face's guide "Perplexity of fixed-length models": windows begin `stride` tokens apart
/// and are `length` long, the last one as long as the text; a token counts in the first window that holds it, so that
/// from the second window on a counted token has at least `length − stride` tokens of context. A window's first token is
/// predicted by nothing and never counts: the text's own first, and, where windows do not overlap, that of each.
public struct EvaluationWindows: Sendable {
    /// Tokens of a window.
    public let length: Int
    /// Tokens from one window's start to the next one's.
    public let stride: Int

    /// - Parameters:
    ///   - length: nil: the whole context.
    ///   - stride: nil: half a window.
    /// - Throws: `invalidRequest` where they do not suit each other or the context.
    public init(length: Int?, stride: Int?, contextLength: Int) throws(LatheError) {
        self.length = length ?? contextLength
        guard (2...max(2, contextLength)).contains(self.length), contextLength >= 2 else {
            throw LatheError(
                .invalidRequest,
                """
                A window of \(self.length) tokens was asked; the model's context takes windows of 2 to \
                \(contextLength).
                """)
        }
        self.stride = stride ?? max(1, self.length / 2)
        guard (1...self.length).contains(self.stride) else {
            throw LatheError(
                .invalidRequest,
                "A stride of \(self.stride) tokens was asked; with windows of \(self.length) it is 1 to \(self.length)."
            )
        }
    }

    /// The windows of a text of `count` tokens that count a token at least.
    package func windows(ofTokens count: Int) -> [EvaluationWindow] {
        var windows: [EvaluationWindow] = []
        var previousEnd = 0
        var start = 0
        while previousEnd < count {
            let end = min(start + length, count)
            let window = EvaluationWindow(tokens: start..<end, firstCounted: max(1, previousEnd - start))
            if !window.countedTokens.isEmpty { windows.append(window) }
            previousEnd = end
            start += stride
        }
        return windows
    }
}
