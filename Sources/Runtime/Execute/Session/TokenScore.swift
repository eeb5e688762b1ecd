/// A token of a text and how likely it was given those before it.
public struct TokenScore: Sendable, Hashable {
    public let id: Int32
    /// Natural logarithm; nil for a token that is not scored, as the first, which nothing predicts.
    public let logProbability: Float?
    /// The likeliest tokens in its place, likeliest first.
    public let topLogProbabilities: [TokenLogProbability]
}

extension TokenScore {
    init(of id: Int32, _ logits: Span<Float>, topCount: Int, logSumExp: Float) {
        self.init(
            id: id, logProbability: logits[Int(id)] - logSumExp,
            topLogProbabilities: likeliestTokens(logits, count: topCount, logSumExp: logSumExp))
    }
}
