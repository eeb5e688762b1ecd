import Dispatch

@testable import Lathe

/// Holds the compute thread inside a step until the test lets it go, so that what happens between two steps is no matter
/// of luck.
final class Gate: Sendable {
    private let arrivals: AsyncStream<Void>
    private let arrival: AsyncStream<Void>.Continuation
    private let opened = DispatchSemaphore(value: 0)

    init() { (arrivals, arrival) = AsyncStream.makeStream() }

    /// On the compute thread.
    func wait() {
        arrival.yield()
        opened.wait()
    }

    /// Returns when the compute thread stands at the gate.
    func reached() async {
        var iterator = arrivals.makeAsyncIterator()
        await iterator.next()
    }

    func open() { opened.signal() }
}

extension Session {
    /// Scores `tokens` and stops the compute thread after the `index`-th, in the middle of a step.
    func score(_ tokens: [Int32], stoppingAt gate: Gate, after index: Int) async throws -> [TokenScore] {
        try await score(tokens) { position, _ in if position == index { gate.wait() } }
    }
}

extension Engine {
    /// Waits until that many requests wait for the compute thread, which stands at a gate.
    func inboxHolds(_ count: Int) async throws {
        while scheduler.waitingRequestCount < count { try await Task.sleep(for: .milliseconds(1)) }
    }
}
