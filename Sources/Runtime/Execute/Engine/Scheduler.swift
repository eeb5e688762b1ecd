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
        while true {
            if active.isEmpty { wakeup.wait() }
            let news = inbox.withLock { inbox in
                defer { (inbox.requests, inbox.released, inbox.jobs) = ([], [], []) }
                return inbox
            }
            for timeline in news.released { executor.cache.release(timeline.table) }
            for job in news.jobs { job(executor) }
            active += news.requests
            if news.isShutDown {
                for request in active { request.fail(Self.shutDownError) }
                return
            }
            active.removeAll { request in
                guard request.isCancelled else { return false }
                request.finish()
                return true
            }
            if !active.isEmpty {
                step(active)
                active.removeAll(where: \.isFinished)
            }
        }
    }

    /// One pass over the weights: a token of every decoding request, and up to a chunk of waiting prompts, first come
    /// first served.
    private func step(_ active: [Request]) {
        executor.begin()
        var chunkLeft = prefillChunk
        var wanted: [(request: Request, row: Int, index: Int)] = []
        for request in active {
            let isDecoding = request.pending.count == 1 && request.isStarted
            let count = isDecoding ? 1 : min(chunkLeft, request.pending.count)
            guard count > 0 else { continue }
            if !isDecoding { chunkLeft -= count }
            let firstRow = executor.rowCount
            let firstIndex = request.fedCount
            executor.append(
                request.pending.prefix(count), table: request.timeline.table,
                firstPosition: request.timeline.position.load(ordering: .relaxed))
            for offset in 0..<count where request.wantsLogits(afterPending: offset) {
                wanted.append((request, firstRow + offset, firstIndex + offset))
            }
            request.advance(by: count)
        }
        executor.forward()
        var start = 0
        while start < wanted.count {
            let group = wanted[start..<min(start + executor.maximumLogitRows, wanted.count)]
            executor.computeLogits(rows: group.map(\.row))
            for (slot, item) in group.enumerated() where !item.request.isFinished {
                executor.withLogits(slot) { logits in
                    item.request.receive(
                        logits, at: item.index, likeliest: executor.likeliest(slot),
                        logSumExp: { self.executor.logSumExp(slot) })
                }
            }
            start = group.endIndex
        }
        // Nothing left to feed and nothing sampled: a scored text has been read to its end.
        for request in active where request.pending.isEmpty { request.finish() }
    }
}
