import LatheFormat

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
