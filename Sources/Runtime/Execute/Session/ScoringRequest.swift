import LatheFormat

/// Which tokens of a text are scored. For the others no logits are computed.
package struct ScoredTokens: Sendable {
    /// The first token whose log-probability is wanted, at least 1: nothing predicts the first token of a text.
    let first: Int
    /// Whether the logits after the last token are wanted too, which predict nothing of the text.
    let includesNext: Bool

    package static func from(_ first: Int) -> ScoredTokens { ScoredTokens(first: max(1, first), includesNext: false) }
    static let all = from(1)
    static let allAndNext = ScoredTokens(first: 1, includesNext: true)
}

/// Feeds a text and keeps the log-probability of each token given those before it.
final class ScoringRequest: Request, @unchecked Sendable {
    private let tokens: [Int32]
    private let scored: ScoredTokens
    private let topCount: Int
    private let onLogits: (@Sendable (Int, Span<Float>) -> Void)?
    /// Set before the request is submitted.
    var continuation: CheckedContinuation<[TokenScore], any Error>?
    private var scores: [TokenScore] = []

    init(
        timeline: Timeline, tokens: [Int32], scored: ScoredTokens, topCount: Int,
        onLogits: (@Sendable (Int, Span<Float>) -> Void)?
    ) {
        self.tokens = tokens
        self.scored = scored
        self.topCount = topCount
        self.onLogits = onLogits
        super.init(timeline: timeline, tokens: tokens)
        scores.reserveCapacity(tokens.count)
        for id in tokens.prefix(scored.first) {
            scores.append(TokenScore(id: id, logProbability: nil, topLogProbabilities: []))
        }
    }

    override var keepsUnfed: Bool { false }

    override func wantsLogits(afterPending offset: Int) -> Bool {
        let next = fedCount + offset + 1
        return next >= scored.first && (next < tokens.count || scored.includesNext)
    }

    override func receive(
        _ logits: Span<Float>, at index: Int, likeliest: Int?, _ buffers: inout SamplingBuffers
    ) {
        if likeliest == nil { failure = .logitNotFinite }
    }

    override func deliver(_ logits: Span<Float>, at index: Int, logSumExp: () -> Float) {
        onLogits?(index, logits)
        guard index + 1 < tokens.count else { return }
        let sum = logSumExp()
        scores.append(TokenScore(of: tokens[index + 1], logits, topCount: topCount, logSumExp: sum))
    }

    override func complete(_ error: LatheError?) {
        if let error {
            continuation?.resume(throwing: error)
        } else if !pending.isEmpty {
            continuation?.resume(throwing: CancellationError())
        } else {
            continuation?.resume(returning: scores)
        }
        continuation = nil
    }
}
