import LatheFormat
import Synchronization

/// One piece of work on a timeline, from admission to its last token. The base class feeds tokens; what becomes of their
/// logits is a subclass's business. Touched by the compute thread alone, but for `cancel`.
class Request: @unchecked Sendable {
    // Sendable: handed to the compute thread by the scheduler's inbox; `cancelled` is atomic.
    let timeline: Timeline
    private let prompt: [Int32]
    /// One token, fed after the prompt, and the guesses behind it: always the same memory.
    private var sampled: [Int32] = []
    /// Where the token before the guesses stands among the tokens of this request.
    private var guessBase = 0
    private(set) var pendingCount: Int
    private(set) var fedCount = 0
    /// The prompt has been fed: from now on one token a step.
    private(set) var isStarted = false
    private(set) var isFinished = false
    /// What `receive` found wrong: the request fails in place of delivering.
    fileprivate(set) var failure: LatheError?
    /// Prompt tokens that the next step feeds: the scheduler's note.
    var share = 0
    private let cancelled = Atomic<Bool>(false)

    /// - Parameter maximumGuesses: of one step.
    init(timeline: Timeline, tokens: [Int32], maximumGuesses: Int = 0) {
        self.timeline = timeline
        prompt = tokens
        pendingCount = tokens.count
        // A literal would be memory of the program, which the first write copies.
        sampled.reserveCapacity(1 + maximumGuesses)
        sampled.append(0)
    }

    /// Tokens to feed, those fed already left out.
    var pending: ArraySlice<Int32> { isStarted ? sampled.prefix(pendingCount) : prompt.suffix(pendingCount) }

    /// What one step feeds of a started request: its token, then what `guess` thinks will follow.
    var pendingAndGuesses: ArraySlice<Int32> { sampled[...] }
    var guessCount: Int { sampled.count - 1 }

    /// Guesses at most `limit` of the tokens that follow the pending one. A guess costs a row of the step and changes no
    /// result: its keys and values are kept, and its logits taken, only if it is what was chosen.
    func guess(upTo limit: Int) {}

    /// Guesses `count` tokens by what followed the last ones before; none where they are new.
    func lookUp(_ count: Int) {
        sampled.removeLast(guessCount)
        guessBase = fedCount
        guard count > 0, let place = timeline.placeAfter(sampled[0]) else { return }
        let history = timeline.history
        // Behind the history stand the token at hand and the guesses themselves: a short period goes on and on.
        for place in place..<place + count {
            sampled.append(place < history.count ? history[place] : sampled[place - history.count])
        }
    }

    /// How many guesses of the last step were right.
    fileprivate var rightGuessCount: Int { fedCount - guessBase - 1 }

    /// Whether the logits that follow the `index`-th token are this request's: those that follow a guess are if the guess was
    /// right, and so were all before it. Such a guess counts as fed from then on.
    func accepts(_ index: Int) -> Bool {
        guard index >= fedCount else { return true }
        guard index == fedCount, pendingCount == 1, sampled[index - guessBase] == sampled[0] else { return false }
        advance(by: 1)
        return true
    }

    var isCancelled: Bool { cancelled.load(ordering: .relaxed) }
    /// The request stops before the next step.
    func cancel() { cancelled.store(true, ordering: .relaxed) }

    /// Whether tokens that a cancelled request did not feed open the timeline's next one.
    var keepsUnfed: Bool { true }

    /// Whether the logits that follow the `offset`-th pending token are needed.
    func wantsLogits(afterPending offset: Int) -> Bool { offset == pendingCount - 1 }

    /// Takes the logits that follow the `index`-th token of this request: a part of the step, which allocates nothing. Requests
    /// receive beside each other on the threads of the team, so nothing but the request itself is touched.
    func receive(_ logits: Span<Float>, at index: Int, likeliest: Int?, _ buffers: inout SamplingBuffers) {}

    /// Hands what came of them to the caller, on the compute thread and in the order of the requests: text and streams may allocate.
    func deliver(_ logits: Span<Float>, at index: Int, logSumExp: () -> Float) {}

    func advance(by count: Int) {
        timeline.advance(by: pending.prefix(count))
        pendingCount -= count
        fedCount += count
    }

    func feed(_ token: Int32) {
        isStarted = true
        sampled[0] = token
        pendingCount = 1
    }

    /// Ends the request; the session may start another. What was not fed yet opens it.
    func finish() {
        guard !isFinished else { return }
        isFinished = true
        if keepsUnfed && pendingCount > 0 { timeline.pendingTokens = Array(pending) }
        timeline.isBusy.store(false, ordering: .releasing)
        complete(nil)
    }

    func fail(_ error: LatheError) {
        guard !isFinished else { return }
        isFinished = true
        timeline.isBusy.store(false, ordering: .releasing)
        complete(error)
    }

    /// Tells whoever waits that the request has ended.
    func complete(_ error: LatheError?) {}
}

/// Continues a prompt token by token into a stream.
final class GenerationRequest: Request, @unchecked Sendable {
    private let options: GenerationOptions
    private let endOfText: [Int32]
    private let tokens: [Int32]
    private let onPromptScore: (@Sendable (TokenScore) -> Void)?
    private let continuation: AsyncThrowingStream<GeneratedToken, any Error>.Continuation
    private var sampler: Sampler
    private var decoder: StreamingDecoder?
    private var stops: StopMatcher
    private var generated = 0
    /// How far guesses reach in the next step: farther while they are right.
    private var reach: Int
    private var lastID: Int32 = 0
    /// The one with a finish reason: given out when the session is free for another request.
    private var lastToken: GeneratedToken?

    init(
        timeline: Timeline, tokens: [Int32], options: GenerationOptions, seed: UInt64, endOfText: [Int32],
        tokenizer: Tokenizer?, onPromptScore: (@Sendable (TokenScore) -> Void)?,
        continuation: AsyncThrowingStream<GeneratedToken, any Error>.Continuation
    ) {
        self.options = options
        self.tokens = tokens
        self.onPromptScore = onPromptScore
        self.endOfText = endOfText
        self.continuation = continuation
        sampler = Sampler(
            options: options, seed: seed,
            maximumTokens: timeline.history.count + tokens.count + options.maximumTokens)
        sampler.observe(timeline.history)
        sampler.observe(tokens)
        decoder = tokenizer.map(StreamingDecoder.init)
        stops = StopMatcher(options.stop)
        reach = options.promptLookup
        super.init(timeline: timeline, tokens: tokens, maximumGuesses: options.promptLookup)
    }

    override func guess(upTo limit: Int) {
        guard options.promptLookup > 0 else { return }
        if guessCount > 0 {
            let right = rightGuessCount
            reach = right == guessCount ? min(2 * right, options.promptLookup) : max(1, right)
        }
        // The last token needs no step of its own.
        let count = min(limit, reach, options.maximumTokens - generated - 1)
        lookUp(count)
    }

    override func wantsLogits(afterPending offset: Int) -> Bool {
        super.wantsLogits(afterPending: offset) || onPromptScore != nil
    }

    override func receive(
        _ logits: Span<Float>, at index: Int, likeliest: Int?, _ buffers: inout SamplingBuffers
    ) {
        if index + 1 < tokens.count {
            if likeliest == nil { failure = .logitNotFinite }
            return
        }
        do throws(LatheError) {
            lastID = try sampler.sample(logits, likeliest: likeliest, &buffers)
        } catch {
            failure = error
            return
        }
        generated += 1
        sampler.observe(CollectionOfOne(lastID))
        feed(lastID)
    }

    override func deliver(_ logits: Span<Float>, at index: Int, logSumExp: () -> Float) {
        if index == 0, let onPromptScore {
            onPromptScore(TokenScore(id: tokens[0], logProbability: nil, topLogProbabilities: []))
        }
        if index + 1 < tokens.count {
            let sum = logSumExp()
            onPromptScore?(
                TokenScore(of: tokens[index + 1], logits, topCount: options.topLogProbabilities ?? 0, logSumExp: sum))
            return
        }
        let id = lastID
        var logProbability: Float?
        var top: [TokenLogProbability] = []
        if let count = options.topLogProbabilities {
            let logSumExp = logSumExp()
            logProbability = logits[Int(id)] - logSumExp
            top = likeliestTokens(logits, count: count, logSumExp: logSumExp)
        }

        let endsText = !options.ignoresEndOfText && endOfText.contains(id)
        var text = ""
        var reason: FinishReason?
        if endsText {
            reason = .endOfText
        } else {
            let (certain, isStopped) = stops.append(decoder?.append(id) ?? "")
            text = certain
            reason = isStopped ? .stop : generated == options.maximumTokens ? .length : nil
        }
        if reason != nil && reason != .stop {
            // What was held back in case more came is certain now.
            let (certain, isStopped) = stops.append(decoder?.finish() ?? "")
            text += certain
            if isStopped { reason = .stop } else { text += stops.finish() }
        }
        let token = GeneratedToken(
            id: id, text: text, logProbability: logProbability, topLogProbabilities: top, finishReason: reason)
        if reason == nil {
            continuation.yield(token)
        } else {
            lastToken = token
            finish()
        }
    }

    override func complete(_ error: LatheError?) {
        // The handler holds the session. It goes first, so that whoever sees the end of the stream and has let go of the
        // session finds its slot free.
        continuation.onTermination = nil
        if let lastToken { continuation.yield(lastToken) }
        continuation.finish(throwing: error)
    }
}

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

/// A token of a text and how likely it was given those before it.
public struct TokenScore: Sendable, Hashable {
    public let id: Int32
    /// Natural logarithm; nil for a token that is not scored, as the first, which nothing predicts.
    public let logProbability: Float?
    /// The likeliest tokens in its place, likeliest first.
    public let topLogProbabilities: [TokenLogProbability]
}

extension TokenScore {
    fileprivate init(of id: Int32, _ logits: Span<Float>, topCount: Int, logSumExp: Float) {
        self.init(
            id: id, logProbability: logits[Int(id)] - logSumExp,
            topLogProbabilities: likeliestTokens(logits, count: topCount, logSumExp: logSumExp))
    }
}
