public import LatheFormat
import Synchronization

/// One timeline of an engine: the tokens fed so far, and their keys and values.
///
/// A session runs one request at a time. Sessions of one engine decode together, in one pass over the weights, and a
/// session's tokens are the same bits whoever decodes beside it. The last reference gone, its memory returns to the
/// engine.
public final class Session: Sendable {
    private let engine: Engine
    private let timeline: Timeline

    /// Tokens that the timeline may hold.
    public let capacity: Int

    init(engine: Engine, tokens: Int) {
        self.engine = engine
        capacity = tokens
        timeline = Timeline(capacityTokens: tokens)
    }

    deinit {
        engine.scheduler.release(timeline)
        engine.sessionEnded(tokens: capacity)
    }

    /// How many tokens the timeline holds.
    public var position: Int { timeline.position.load(ordering: .relaxed) }

    /// Feeds `prompt` and continues it.
    ///
    ///     for try await token in try session.generate(prompt) { print(token.text, terminator: "") }
    ///
    /// Dropping the stream, or cancelling the task that reads it, stops the work before its next step. The engine does not
    /// wait for its reader: the timeline then holds every token that was generated until that step, read or not, and the
    /// session is busy until it has ended.
    ///
    /// - Parameters:
    ///   - prompt: token ids; empty stands for the beginning-of-text token at the timeline's start.
    ///   - onPromptScore: called on the compute thread with each token of the prompt, the first included, in order and
    ///     before any token is generated. Logits are then computed for the whole prompt.
    /// - Throws: `invalidRequest` before anything runs: an id outside the vocabulary, prompt and continuation longer than
    ///   the session, an option out of range, a session that is busy.
    public func generate(
        _ prompt: [Int32], options: GenerationOptions = GenerationOptions(),
        onPromptScore: (@Sendable (TokenScore) -> Void)? = nil
    ) throws(LatheError) -> AsyncThrowingStream<GeneratedToken, any Error> {
        try options.validate(vocabularySize: engine.model.configuration.vocabularySize)
        if !options.stop.isEmpty && engine.model.tokenizer == nil {
            throw LatheError(.invalidRequest, "Stop strings need a tokenizer, and this model has none.")
        }
        let tokens = try begin(prompt, reserving: options.maximumTokens)
        let seed = options.seed ?? UInt64.random(in: .min ... .max)
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: GeneratedToken.self)
        let request = GenerationRequest(
            timeline: timeline, tokens: tokens, options: options, seed: seed,
            endOfText: engine.model.configuration.endOfTextIDs.map(Int32.init), tokenizer: engine.model.tokenizer,
            onPromptScore: onPromptScore, continuation: continuation)
        // Keeps the session alive while its request runs: its blocks must not return to the pool.
        continuation.onTermination = { [self] _ in
            request.cancel()
            withExtendedLifetime(self) {}
        }
        engine.scheduler.submit(request)
        return stream
    }

    /// Feeds `tokens` to an unused session and says how likely each was. Cancelling the task stops the work before its
    /// next step.
    ///
    /// - Parameters:
    ///   - topCount: with each token, this many likeliest ones in its place.
    ///   - onLogits: called on the compute thread with the index of each token and the logits that follow it, in order.
    /// - Throws: `invalidRequest` as `generate`; `notFinite` where a logit is not a number; `CancellationError`.
    public func score(
        _ tokens: [Int32], topCount: Int = 0, onLogits: (@Sendable (Int, Span<Float>) -> Void)? = nil
    ) async throws -> [TokenScore] {
        // The last token's logits predict nothing of the text: only someone who asked for logits gets them.
        try await score(tokens, onLogits == nil ? .all : .allAndNext, topCount: topCount, onLogits: onLogits)
    }

    /// Scores a part of `tokens`; the head is computed for that part alone.
    package func score(
        _ tokens: [Int32], _ scored: ScoredTokens, topCount: Int = 0,
        onLogits: (@Sendable (Int, Span<Float>) -> Void)? = nil
    ) async throws -> [TokenScore] {
        guard !tokens.isEmpty else { throw LatheError(.invalidRequest, "There is no token to score.") }
        let request = ScoringRequest(
            timeline: timeline, tokens: try begin(tokens, reserving: 0, opensTimeline: true), scored: scored,
            topCount: topCount, onLogits: onLogits)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                request.continuation = continuation
                engine.scheduler.submit(request)
            }
        } onCancel: {
            request.cancel()
        }
    }

    /// Admits a request: what it feeds, checked, with the session marked busy.
    ///
    /// - Parameter opensTimeline: refuses a session that has been used.
    private func begin(
        _ prompt: [Int32], reserving newTokens: Int, opensTimeline: Bool = false
    ) throws(LatheError) -> [Int32] {
        let configuration = engine.model.configuration
        for id in prompt where id < 0 || Int(id) >= configuration.vocabularySize {
            throw LatheError(
                .invalidRequest,
                "The token id \(id) is outside the vocabulary of \(configuration.vocabularySize).")
        }
        guard timeline.isBusy.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else {
            throw LatheError(.invalidRequest, "The session is still working on another request.")
        }
        do throws(LatheError) {
            if opensTimeline && (position > 0 || !timeline.pendingTokens.isEmpty) {
                throw LatheError(.invalidRequest, "A text is scored from its beginning; this session has been used.")
            }
            var tokens = timeline.pendingTokens + prompt
            if tokens.isEmpty {
                guard let first = configuration.beginningOfTextID, position == 0 else {
                    throw LatheError(
                        .invalidRequest,
                        "The prompt is empty, and the model names no beginning-of-text token to stand for it.")
                }
                tokens = [Int32(first)]
            }
            guard position + tokens.count + newTokens <= capacity else {
                let place = capacity < engine.contextLength ? "session" : "context"
                throw LatheError(
                    .invalidRequest,
                    """
                    \(position + tokens.count) prompt tokens and \(newTokens) new ones do not fit the \(place) of \
                    \(capacity).
                    """)
            }
            timeline.pendingTokens = []
            return tokens
        } catch {
            timeline.isBusy.store(false, ordering: .releasing)
            throw error
        }
    }
}
