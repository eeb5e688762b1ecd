import Lathe
import LatheFormat
import Synchronization

/// One prompt and what is to follow it: a call is one or several of these.
struct TokenSequence: Sendable {
    /// Its place in the reply.
    let index: Int
    let prompt: Prompt
    var options: GenerationOptions
    /// Whether the prompt's own tokens are scored.
    var scoresPrompt = false
}

/// What became of a sequence.
struct Continuation: Sendable {
    var tokens: [GeneratedToken] = []
    var promptScores: [TokenScore] = []
    var text: String { tokens.map(\.text).joined() }
    /// Present when the sequence has ended by itself.
    var finishReason: FinishReason? { tokens.last?.finishReason }
}

/// Runs the sequences of calls on the engine.
struct SequenceRunner: Sendable {
    let queue: SessionQueue
    let metrics: ServiceMetrics
    /// Sequences of one call that run or wait at once.
    let window: Int
    /// Of every sequence.
    let promptLookup: Int

    /// - Parameters:
    ///   - onToken: told of each token as it comes, by tasks of several sequences at once; of the prompt's scores with the first.
    /// - Returns: in the order of `sequences`.
    /// - Throws: `ServiceError`, `CancellationError`; the other sequences are then cancelled.
    func run(
        _ sequences: [TokenSequence], of call: ServiceCall,
        onToken: (@Sendable (TokenSequence, GeneratedToken, [TokenScore]) -> Void)? = nil
    ) async throws -> [Continuation] {
        try await withThrowingTaskGroup(of: (Int, Continuation).self) { group in
            var results = [Continuation?](repeating: nil, count: sequences.count)
            var next = 0
            func start() {
                let (place, isFirst) = (next, next == 0)
                next += 1
                group.addTask {
                    let result = try await run(
                        sequences[place], of: call, mayBeRefused: isFirst, onToken: onToken)
                    return (place, result)
                }
            }
            while next < min(window, sequences.count) { start() }
            while let (place, continuation) = try await group.next() {
                results[place] = continuation
                if next < sequences.count { start() }
            }
            return results.map { $0! }
        }
    }

    private func run(
        _ sequence: TokenSequence, of call: ServiceCall, mayBeRefused: Bool,
        onToken: (@Sendable (TokenSequence, GeneratedToken, [TokenScore]) -> Void)?
    ) async throws -> Continuation {
        let arrival = ContinuousClock.now
        let capacity = sequence.prompt.ids.count + sequence.options.maximumTokens
        let session = try await queue.session(tokens: capacity, client: call.client, mayBeRefused: mayBeRefused)
        metrics.admitted(after: ContinuousClock.now - arrival, promptTokens: sequence.prompt.ids.count)
        call.tokens.add(promptTokens: sequence.prompt.ids.count)
        let scores = sequence.scoresPrompt ? PromptScores() : nil
        var result = Continuation()
        result.tokens.reserveCapacity(min(sequence.options.maximumTokens, 256))
        var last = arrival
        do {
            var onPromptScore: (@Sendable (TokenScore) -> Void)?
            if let scores { onPromptScore = { scores.append($0) } }
            var options = sequence.options
            options.promptLookup = promptLookup
            let stream = try session.generate(
                sequence.prompt.ids, options: options, onPromptScore: onPromptScore)
            for try await token in stream {
                let now = ContinuousClock.now
                if result.tokens.isEmpty {
                    metrics.firstToken(after: now - arrival)
                    result.promptScores = scores?.all ?? []
                } else {
                    metrics.nextToken(after: now - last)
                }
                last = now
                call.tokens.addNewToken()
                onToken?(sequence, token, result.tokens.isEmpty ? result.promptScores : [])
                result.tokens.append(token)
            }
        } catch let error as LatheError {
            throw ServiceError(error)
        }
        // A stream whose reader was cancelled ends without a reason.
        guard let reason = result.finishReason else { throw CancellationError() }
        metrics.finished(reason)
        return result
    }
}

/// Filled on the compute thread before the first token, read after it.
private final class PromptScores: Sendable {
    private let scores = Mutex<[TokenScore]>([])
    func append(_ score: TokenScore) { scores.withLock { $0.append(score) } }
    var all: [TokenScore] { scores.withLock { $0 } }
}
