package import LatheFormat
import Synchronization

/// One call, as it came over the wire or out of a batch file.
package struct ServiceCall: Sendable {
    /// Such as `/v1/completions`.
    package var path: String
    /// JSON; nothing is trusted.
    package var body: [UInt8]
    /// Who asks: calls of different clients take turns.
    package var client: String
    package var received: ContinuousClock.Instant
    /// What it has cost so far.
    package let tokens = TokenTally()

    package init(path: String, body: [UInt8], client: String, received: ContinuousClock.Instant = .now) {
        self.path = path
        self.body = body
        self.client = client
        self.received = received
    }
}

/// The tokens that a call has had read and generated, all its sequences together.
package final class TokenTally: Sendable {
    private let read = Atomic(0)
    private let generated = Atomic(0)

    package var promptTokens: Int { read.load(ordering: .relaxed) }
    package var newTokens: Int { generated.load(ordering: .relaxed) }

    func add(promptTokens count: Int) { read.add(count, ordering: .relaxed) }
    func addNewToken() { generated.add(1, ordering: .relaxed) }
}

package enum ServiceReply: Sendable {
    case document(ServiceDocument)
    /// `text/event-stream`, status 200.
    case events(ServiceEvents)
}

/// A whole JSON reply.
package struct ServiceDocument: Sendable {
    package var status: Int
    package var body: [UInt8]
    package var retryAfterSeconds: Int?

    package init(status: Int, body: [UInt8], retryAfterSeconds: Int? = nil) {
        self.status = status
        self.body = body
        self.retryAfterSeconds = retryAfterSeconds
    }

    package init(status: Int = 200, _ json: JSON, retryAfterSeconds: Int? = nil) {
        self.status = status
        body = json.serializedBytes()
        self.retryAfterSeconds = retryAfterSeconds
    }

    package init(_ error: ServiceError) {
        self.init(status: error.status, error.json, retryAfterSeconds: error.retryAfterSeconds)
    }
}

/// Server-sent events, each element a whole one. The first is there already: what fails before it is a document instead.
///
/// A reader that falls behind by more than `ServiceSettings.eventBuffer` events loses the rest: the work is cancelled and
/// the sequence ends. Letting go of the sequence cancels the work too.
package struct ServiceEvents: AsyncSequence, Sendable {
    package typealias Element = [UInt8]
    private let first: [UInt8]?
    private let rest: AsyncStream<[UInt8]>

    package init(first: [UInt8]? = nil, rest: AsyncStream<[UInt8]>) {
        self.first = first
        self.rest = rest
    }

    package func makeAsyncIterator() -> Iterator { Iterator(first: first, rest: rest.makeAsyncIterator()) }

    package struct Iterator: AsyncIteratorProtocol {
        var first: [UInt8]?
        var rest: AsyncStream<[UInt8]>.Iterator

        package mutating func next() async -> [UInt8]? {
            if let event = first {
                first = nil
                return event
            }
            return await rest.next()
        }
    }
}

/// Where the work behind a stream of events puts them.
final class EventSink: Sendable {
    private struct State {
        var isStarted = false
        var earlyFailure: (any Error)?
    }

    private let continuation: AsyncStream<[UInt8]>.Continuation
    private let state = Mutex(State())

    init(_ continuation: AsyncStream<[UInt8]>.Continuation) { self.continuation = continuation }

    /// What ended the work before any event.
    var earlyFailure: (any Error)? { state.withLock { $0.earlyFailure } }

    /// A reader too far behind ends the stream, and with it the work.
    func send(_ event: JSON) {
        state.withLock { $0.isStarted = true }
        if case .dropped = continuation.yield(Self.bytes(event)) { continuation.finish() }
    }

    func finish() {
        continuation.yield(Array("data: [DONE]\n\n".utf8))
        continuation.finish()
    }

    /// Tells the reader as the last event, or as a document, where there was none yet.
    func fail(_ error: any Error) {
        let isStarted = state.withLock { state in
            if !state.isStarted { state.earlyFailure = error }
            return state.isStarted
        }
        if isStarted {
            let error = error as? ServiceError ?? .unavailable("The call was cancelled.")
            continuation.yield(Self.bytes(error.json))
        }
        continuation.finish()
    }

    private static func bytes(_ event: JSON) -> [UInt8] {
        Array("data: ".utf8) + event.serializedBytes() + Array("\n\n".utf8)
    }
}
