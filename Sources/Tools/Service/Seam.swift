import LatheFormat

// A stand-in for the service behind `lathe-serve`, so that the HTTP layer can be built and tested by itself: it loads no
// model, answers every call with what it was sent, and is replaced by the real one.

package struct ServiceCall: Sendable {
    package var path: String
    package var body: [UInt8]
    /// The key or the address that it came by: for fairness.
    package var client: String
    package var received: ContinuousClock.Instant

    package init(path: String, body: [UInt8], client: String, received: ContinuousClock.Instant) {
        self.path = path
        self.body = body
        self.client = client
        self.received = received
    }
}

package enum ServiceReply: Sendable {
    case document(ServiceDocument)
    case events(ServiceEvents)
}

package struct ServiceDocument: Sendable {
    package var status: Int
    package var body: [UInt8]
    package var retryAfterSeconds: Int?

    package init(status: Int, body: [UInt8], retryAfterSeconds: Int? = nil) {
        self.status = status
        self.body = body
        self.retryAfterSeconds = retryAfterSeconds
    }
}

/// Whole events of a text/event-stream.
package struct ServiceEvents: AsyncSequence, Sendable {
    package typealias Element = [UInt8]
    private let stream: AsyncStream<[UInt8]>

    package init(_ stream: AsyncStream<[UInt8]>) { self.stream = stream }

    package func makeAsyncIterator() -> AsyncStream<[UInt8]>.Iterator { stream.makeAsyncIterator() }
}

package struct ServiceSettings: Sendable {
    package var model: String
    package var memoryBudget: Int?
    package var sessions: Int?
    package var context: Int?
    package var queue: Int
    package var threads: Int?
    package var cacheFormat: String?
    package var prefillChunk: Int?
    package var requestTimeout: Duration

    package init(
        model: String, memoryBudget: Int? = nil, sessions: Int? = nil, context: Int? = nil, queue: Int = 64,
        threads: Int? = nil, cacheFormat: String? = nil, prefillChunk: Int? = nil,
        requestTimeout: Duration = .seconds(120)
    ) {
        self.model = model
        self.memoryBudget = memoryBudget
        self.sessions = sessions
        self.context = context
        self.queue = queue
        self.threads = threads
        self.cacheFormat = cacheFormat
        self.prefillChunk = prefillChunk
        self.requestTimeout = requestTimeout
    }
}

package final class TextService: Sendable {
    package init(_ settings: ServiceSettings) {}

    package var isReady: Bool { true }
    package func warmUp() async throws {}
    package func drain(within grace: Duration) async {}

    package func reply(to call: ServiceCall) async -> ServiceReply {
        .document(ServiceDocument(status: 200, body: call.body))
    }

    package func models() -> ServiceDocument { ServiceDocument(status: 200, body: Array(#"{"data":[]}"#.utf8)) }
    package func memory() -> ServiceDocument { ServiceDocument(status: 200, body: Array("{}".utf8)) }

    package static func errorDocument(
        status: Int, type: String, message: String, param: String? = nil, code: String? = nil,
        retryAfterSeconds: Int? = nil
    ) -> ServiceDocument {
        let error: JSON = [
            "error": [
                "message": .string(message), "type": .string(type), "param": param.map { .string($0) } ?? .null,
                "code": code.map { .string($0) } ?? .null,
            ]
        ]
        return ServiceDocument(
            status: status, body: Array(error.serialized().utf8), retryAfterSeconds: retryAfterSeconds)
    }
}
