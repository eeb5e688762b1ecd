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
    var failure: LatheError?
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
    var rightGuessCount: Int { fedCount - guessBase - 1 }

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
