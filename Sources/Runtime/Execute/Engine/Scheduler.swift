import Dispatch
import LatheFormat
import Synchronization

/// Feeds the executor: sessions wait in an inbox, decode together in one pass over the weights, and prefill in chunks
/// beside it. Everything but the inbox belongs to the compute thread.
final class Scheduler: Sendable {
    private struct Inbox {
        var requests: [Request] = []
        var released: [Timeline] = []
        var jobs: [@Sendable (Executor) -> Void] = []
        var isShutDown = false

        var isEmpty: Bool { requests.isEmpty && released.isEmpty && jobs.isEmpty && !isShutDown }
    }

    private let inbox = Mutex(Inbox())
    private let wakeup = DispatchSemaphore(value: 0)
    private let executor: Executor
    private let prefillChunk: Int

    init(executor: Executor, prefillChunk: Int) {
        self.executor = executor
        self.prefillChunk = prefillChunk
    }

    var stepWeightBytes: Int { executor.stepWeightBytes }
    var residentWeightBytes: Int { executor.residentWeightBytes }
    var placedWeightBytes: Int { executor.placedWeightBytes }
    var weightFormats: Set<UInt32> { executor.weightFormats }

    // MARK: From any thread

    /// Requests that the compute thread has not taken yet.
    var waitingRequestCount: Int { inbox.withLock { $0.requests.count } }

    func submit(_ request: Request) {
        let isShutDown = inbox.withLock { inbox in
            if !inbox.isShutDown { inbox.requests.append(request) }
            return inbox.isShutDown
        }
        if isShutDown { request.fail(Self.shutDownError) } else { wakeup.signal() }
    }

    /// Runs `job` on the compute thread, between two steps.
    func submit(job: @escaping @Sendable (Executor) -> Void) {
        inbox.withLock { $0.jobs.append(job) }
        wakeup.signal()
    }

    /// Gives a session's blocks back to the pool.
    func release(_ timeline: Timeline) {
        inbox.withLock { $0.released.append(timeline) }
        wakeup.signal()
    }

    /// The compute thread ends before its next step; whatever runs then fails.
    func shutDown() {
        inbox.withLock { $0.isShutDown = true }
        wakeup.signal()
    }

    private static let shutDownError = LatheError(.invalidRequest, "The engine was shut down.")

    // MARK: On the compute thread

    func run() {
        var active: [Request] = []
        let choices = Choices(executor: executor)
        executor.bindThreads()
        while true {
            if active.isEmpty {
                executor.enter(.admission)
                wakeup.wait()
            }
            executor.enter(.step)
            if let news = takeNews() {
                executor.enter(.admission)
                guard admit(news, to: &active) else { return }
            }
            if active.contains(where: { $0.isCancelled }) {
                executor.enter(.admission)
                for request in active where request.isCancelled { request.finish() }
                active.removeAll { $0.isFinished }
            }
            guard !active.isEmpty else { continue }
            executor.enter(.step)
            step(active, choices)
            if active.contains(where: { $0.isFinished }) {
                executor.enter(.admission)
                active.removeAll { $0.isFinished }
            }
        }
    }

    /// A function of its own, so that what came in is gone when the step begins.
    ///
    /// - Returns: whether the engine goes on.
    @inline(never)
    private func admit(_ news: consuming Inbox, to active: inout [Request]) -> Bool {
        for timeline in news.released { executor.cache.release(timeline.table) }
        for job in news.jobs { job(executor) }
        active += news.requests
        if news.isShutDown {
            for request in active { request.fail(Self.shutDownError) }
        }
        return !news.isShutDown
    }

    /// What came in since the last step; nil, mostly, for nothing.
    private func takeNews() -> Inbox? {
        inbox.withLock { inbox in
            guard !inbox.isEmpty else { return nil }
            defer { (inbox.requests, inbox.released, inbox.jobs) = ([], [], []) }
            return inbox
        }
    }

    /// One pass over the weights: a token of every decoding request, and up to a chunk of waiting prompts.
    private func step(_ active: [Request], _ choices: Choices) {
        gather(active, choices)
        executor.forward()
        var start = 0
        while start < choices.wanted.count {
            let places = start..<min(start + executor.maximumLogitRows, choices.wanted.count)
            executor.computeLogits(rows: choices.wanted[places].lazy.map { $0.row })
            executor.run(choices, places: places)
            for place in places { take(place, of: places, choices) }
            start = places.upperBound
        }
        executor.end()
        choices.wanted.removeAll(keepingCapacity: true)
        // Nothing left to feed and nothing sampled: a scored text has been read to its end.
        executor.enter(.delivery)
        for request in active where request.pending.isEmpty { request.finish() }
        executor.enter(.step)
    }

    /// Fills the executor's rows, and lists those whose logits are wanted.
    private func gather(_ active: [Request], _ choices: Choices) {
        let guessLimit = shareChunk(among: active) ? 0 : guesses(for: active.count)
        for request in active {
            let count = request.isStarted ? 1 : request.share
            guard count > 0 else { continue }
            if request.isStarted { request.guess(upTo: guessLimit) }
            let rows = request.isStarted ? request.pendingAndGuesses : request.pending.prefix(count)
            let firstRow = executor.rowCount
            let firstIndex = request.fedCount
            executor.append(
                rows, table: request.timeline.table,
                firstPosition: request.timeline.position.load(ordering: .relaxed))
            for offset in 0..<rows.count where offset >= count || request.wantsLogits(afterPending: offset) {
                choices.wanted.append(
                    Choices.Wanted(request: request, row: firstRow + offset, index: firstIndex + offset))
            }
            request.advance(by: count)
        }
    }

    /// Decides how many tokens of each waiting prompt this step feeds. The shortest rest goes first, so that a long prompt does
    /// not hold up short ones; the oldest gets a quarter of the chunk at least, so that none waits for ever. Where others decode
    /// the chunk is a quarter of itself: each of their tokens waits for it.
    ///
    /// - Returns: whether any prompt waits.
    private func shareChunk(among active: [Request]) -> Bool {
        var oldest: Request?
        var left = prefillChunk
        var waiting = 0
        // One look at each: a look is a retain and a release.
        for request in active {
            if request.isStarted {
                left = max(1, prefillChunk / 4)
            } else {
                request.share = 0
                waiting += 1
                if oldest == nil { oldest = request }
            }
        }
        guard let oldest else { return false }
        oldest.share = min(waiting == 1 ? left : max(1, left / 4), oldest.pendingCount)
        guard waiting > 1 else { return true }
        left -= oldest.share
        while left > 0 {
            var next: Request?
            var shortest = Int.max
            for request in active where !request.isStarted {
                let rest = request.pendingCount - request.share
                if rest > 0 && rest < shortest { (next, shortest) = (request, rest) }
            }
            guard let next else { break }
            let count = min(left, shortest)
            next.share += count
            left -= count
        }
        return true
    }

    /// How many tokens each of `count` decoding requests may guess.
    private func guesses(for count: Int) -> Int {
        min(max(0, Self.rowsOfAWeightPass - count), prefillChunk) / count
    }

    /// A step of as many rows takes little longer than one of a single row: reading the weights bounds both.
    private static let rowsOfAWeightPass = 8

    /// Lets the request that took these logits tell its caller; one that wants several rows of `places` takes them here, each
    /// after the one before was told.
    private func take(_ place: Int, of places: Range<Int>, _ choices: Choices) {
        let request = choices.wanted[place].request
        guard !request.isFinished, request.accepts(choices.wanted[place].index) else { return }
        let slot = place - places.lowerBound
        if !choices.isAlone(place, in: places) { choices.receive(place, slot: slot, thread: 0, from: executor) }
        executor.enter(.delivery)
        if let failure = request.failure {
            request.fail(failure)
        } else {
            executor.withLogits(slot) { logits in
                request.deliver(logits, at: choices.wanted[place].index, logSumExp: { executor.logSumExp(slot) })
            }
        }
        executor.enter(.step)
    }
}
