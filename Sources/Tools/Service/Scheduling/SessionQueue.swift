import Lathe
import LatheFormat
import Synchronization

/// Hands out an engine's sessions: who asks for one gets it when its tokens fit beside those that run, or waits.
///
/// Clients take turns; one client's own requests go in order. Whoever's turn it is waits for as many tokens as it needs, and
/// nobody overtakes it: a large request is delayed, not starved.
final class SessionQueue: Sendable {
    private struct Waiter {
        let id: UInt64
        let tokens: Int
        let continuation: CheckedContinuation<Session, any Error>
    }

    private struct State {
        /// By client; a client that has nobody waiting is not listed.
        var waiting: [String: [Waiter]] = [:]
        /// The clients in the order of their turns.
        var turns: [String] = []
        var count = 0
        var nextID: UInt64 = 0
        var isClosed = false
    }

    private let engine: Engine
    private let capacity: Int
    private let state = Mutex(State())

    /// - Parameter capacity: the most that wait.
    init(engine: Engine, capacity: Int) {
        self.engine = engine
        self.capacity = capacity
        engine.onSessionEnd { [weak self] in self?.serve() }
    }

    /// Whether who comes now would be refused.
    var isFull: Bool { state.withLock { isFull($0) } }
    var waitingCount: Int { state.withLock { $0.count } }

    /// - Parameter mayBeRefused: false for a later sequence of a call of which others have run: that one may exceed the line.
    /// - Throws: `ServiceError` 429 at once where too many wait, 503 where the queue is closed; `CancellationError`.
    func session(tokens: Int, client: String, mayBeRefused: Bool) async throws -> Session {
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let refusal: (any Error)? = state.withLock { state in
                    if state.isClosed { return ServiceError.unavailable("The service is shutting down.") }
                    // A cancellation from here on finds the waiter; an earlier one shows.
                    if Task.isCancelled { return CancellationError() }
                    // Without a line, who fits is served right below.
                    if mayBeRefused && isFull(state) {
                        return ServiceError.busy(
                            "\(state.count) requests wait already, as many as this service keeps waiting.",
                            retryAfterSeconds: 1)
                    }
                    if state.waiting[client] == nil { state.turns.append(client) }
                    state.waiting[client, default: []].append(
                        Waiter(id: id, tokens: tokens, continuation: continuation))
                    state.count += 1
                    return nil
                }
                if let refusal { continuation.resume(throwing: refusal) } else { serve() }
            }
        } onCancel: {
            cancel(id, client: client)
        }
    }

    private func isFull(_ state: borrowing State) -> Bool { state.count >= capacity && state.count > 0 }

    /// Refuses who waits and whoever comes.
    func close() {
        let waiters = state.withLock { state in
            state.isClosed = true
            defer { (state.waiting, state.turns, state.count) = ([:], [], 0) }
            return state.waiting.values.flatMap { $0 }
        }
        for waiter in waiters {
            waiter.continuation.resume(throwing: ServiceError.unavailable("The service is shutting down."))
        }
    }

    /// Gives sessions to those whose turn it is, as far as they fit.
    private func serve() {
        while let (waiter, session) = takeNext() { waiter.continuation.resume(returning: session) }
    }

    private func takeNext() -> (Waiter, Session)? {
        state.withLock { state in
            guard let client = state.turns.first, let waiter = state.waiting[client]?.first,
                let session = try? engine.makeSession(tokens: waiter.tokens)
            else { return nil }
            state.turns.removeFirst()
            state.waiting[client]?.removeFirst()
            state.count -= 1
            if state.waiting[client]!.isEmpty {
                state.waiting[client] = nil
            } else {
                state.turns.append(client)
            }
            return (waiter, session)
        }
    }

    private func cancel(_ id: UInt64, client: String) {
        let waiter: Waiter? = state.withLock { state in
            guard let index = state.waiting[client]?.firstIndex(where: { $0.id == id }) else { return nil }
            let waiter = state.waiting[client]!.remove(at: index)
            state.count -= 1
            if state.waiting[client]!.isEmpty {
                state.waiting[client] = nil
                state.turns.removeAll { $0 == client }
            }
            return waiter
        }
        guard let waiter else { return }
        waiter.continuation.resume(throwing: CancellationError())
        // Who stood behind it may fit.
        serve()
    }
}
