import LatheService
import Synchronization

/// One request and its reply, for the log and the metrics: never what was asked or answered, only its measures.
struct Exchange: Sendable {
    enum Ending: String, Sendable {
        /// The last byte was handed to the system.
        case sent
        /// The client closed the connection before that.
        case clientGone = "client-gone"
        /// The client took nothing for too long.
        case writeTimeout = "write-timeout"
        /// The server was shut down, or failed, before that.
        case cut
    }

    var id = ""
    var method: String
    var path: String
    /// One of the routes' paths, or `other`: fit for a label.
    var route = "other"
    var status = 0
    /// When the head of the request had been read.
    var received: ContinuousClock.Instant
    var firstByte: ContinuousClock.Instant?
    var requestBytes = 0
    var replyBytes = 0
    var events = 0
    /// Of a request that generates.
    var tokens: TokenTally?
}

/// What the event loop of a connection and the task that answers it tell each other. It outlives neither.
final class Connection: Sendable {
    /// Of the task that answers.
    @TaskLocal static var current: Connection?

    private struct State {
        var isGone = false
        var cancel: (@Sendable () -> Void)?
        var exchange: Exchange?
    }
    private let state = Mutex(State())
    /// The client's address without its port.
    let peer: String

    init(peer: String) { self.peer = peer }

    /// Runs `operation` in a task that is cancelled as soon as the client is gone.
    func whileOpen(_ operation: @escaping @Sendable () async -> Void) async {
        let task = Task { await Self.$current.withValue(self) { await operation() } }
        let isGone = state.withLock { state in
            state.cancel = { task.cancel() }
            return state.isGone
        }
        if isGone { task.cancel() }
        await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
        state.withLock { $0.cancel = nil }
    }

    /// Whatever is still done for this client may end.
    func end() {
        let cancel = state.withLock { state in
            state.isGone = true
            defer { state.cancel = nil }
            return state.cancel
        }
        cancel?()
    }

    func begin(_ exchange: Exchange) { state.withLock { $0.exchange = exchange } }
    func takeExchange() -> Exchange? { state.withLock { $0.exchange.take() } }
    var exchange: Exchange? { state.withLock { $0.exchange } }

    /// Does nothing where the exchange has ended already.
    func update(_ change: (inout Exchange) -> Void) {
        state.withLock { state in
            if var exchange = state.exchange {
                change(&exchange)
                state.exchange = exchange
            }
        }
    }
}

/// The bytes of bodies beyond what each connection may hold anyway, all connections together: a plan of memory counts them.
final class LargeBodies: Sendable {
    private let maximum: Int
    private let held = Atomic(0)

    init(maximum: Int) { self.maximum = maximum }

    /// - Returns: whether there was room; else nothing was taken.
    func take(_ count: Int) -> Bool {
        if held.add(count, ordering: .relaxed).newValue <= maximum { return true }
        giveBack(count)
        return false
    }

    func giveBack(_ count: Int) { held.subtract(count, ordering: .relaxed) }
}

/// How many connections are open, and whether one more is served in full.
final class Census: Sendable {
    let maximum: Int
    private let count = Atomic(0)

    init(maximum: Int) { self.maximum = maximum }

    var open: Int { count.load(ordering: .relaxed) }
    /// - Returns: whether the newcomer is within the maximum.
    func enter() -> Bool { count.add(1, ordering: .relaxed).newValue <= maximum }
    func leave() { count.subtract(1, ordering: .relaxed) }
}
