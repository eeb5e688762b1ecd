import NIOCore
import NIOHTTP1

/// What a connection may cost, and who is told of its requests.
struct ConnectionRules: Sendable {
    var maximumBody = 1_000_000
    /// Shared by all connections.
    var largeBodies = LargeBodies(maximum: .max / 2)
    /// Shared by all connections.
    var refusalPace = RefusalPace(maximum: RefusalPace.standardMaximum)
    /// From the first byte of a request to the end of its head.
    var headerTimeout = TimeAmount.seconds(10)
    /// From the end of the head to the end of the body.
    var bodyTimeout = TimeAmount.seconds(30)
    /// Between requests.
    var idleTimeout = TimeAmount.seconds(60)
    /// Between two signs that the client takes its reply.
    var writeTimeout = TimeAmount.seconds(20)

    /// Whether a request is answered even on a connection beyond the maximum: health checks and metrics.
    var isAlwaysAnswered: @Sendable (_ path: Substring) -> Bool = { _ in false }
    /// Whether a request for this path would be refused because too many wait.
    var isFull: @Sendable (_ path: Substring) -> Bool = { _ in false }
    /// A reply that the connection gives by itself.
    var refusal: @Sendable (Refusal) -> [UInt8]
    /// Called once for every request of which a head was read, and for what was refused before that.
    var ended: @Sendable (Exchange, Exchange.Ending) -> Void

    /// All names and values of a head together.
    static let maximumHead = 16 << 10
    static let maximumHeaderCount = 100
    static let maximumTarget = 4 << 10
    /// What the system holds of a reply that the client does not take; the kernel doubles it. Kernels count it as the
    /// memory of the process's control group.
    static let sendBuffer = 64 << 10
    static let readBuffer = 16 << 10
    /// Of a body, what needs no share of `largeBodies`: whoever sends little is served while others fill that.
    static let smallBody = 16 << 10
    /// A reply is handed on in pieces of this size, so that taking one is a sign of life.
    static let writePiece = 16 << 10
    /// What is kept of requests sent ahead, before the one at hand is answered, until nothing more is read.
    static let maximumAhead = 64 << 10
    /// After a refusal the rest of a request is read and dropped, so that the client sees the reply and no reset
    /// connection; but neither longer nor more than this.
    static let lingerTimeout = TimeAmount.seconds(2)
    static let maximumLinger = 8 << 20
    static let refusalDelay = TimeAmount.milliseconds(20)
}

/// Why a connection answers by itself, without asking the service.
enum Refusal: Sendable, Equatable {
    case malformed(String)
    case noHost
    case slowHead
    case slowBody
    case bodyTooLong(maximum: Int)
    case bodiesTooMany
    case targetTooLong
    case headTooLong
    case expectation
    case version
    case crowded
    case full

    var status: HTTPResponseStatus {
        switch self {
        case .malformed, .noHost: .badRequest
        case .slowHead, .slowBody: .requestTimeout
        case .bodyTooLong: .payloadTooLarge
        case .targetTooLong: .uriTooLong
        case .headTooLong: .requestHeaderFieldsTooLarge
        case .expectation: .expectationFailed
        case .version: .httpVersionNotSupported
        case .crowded, .bodiesTooMany: .serviceUnavailable
        case .full: .tooManyRequests
        }
    }

    var code: String {
        switch self {
        case .malformed: "malformed_request"
        case .noHost: "host_missing"
        case .slowHead: "header_timeout"
        case .slowBody: "body_timeout"
        case .bodyTooLong: "body_too_long"
        case .bodiesTooMany: "too_many_large_bodies"
        case .targetTooLong: "target_too_long"
        case .headTooLong: "headers_too_long"
        case .expectation: "expectation_unknown"
        case .version: "version_unsupported"
        case .crowded: "too_many_connections"
        case .full: "queue_full"
        }
    }

    var message: String {
        switch self {
        case .malformed(let what): "This is no HTTP/1.1 request: \(what)."
        case .noHost: "A request by HTTP/1.1 needs the field Host."
        case .slowHead: "The head of the request did not end in time; send it at once."
        case .slowBody: "The body of the request did not end in time; send it at once."
        case .bodyTooLong(let maximum): "The body is longer than \(maximum) bytes; send less at a time."
        case .bodiesTooMany: "Too many large bodies are on their way at once; try again shortly."
        case .targetTooLong: "The target of the request is longer than \(ConnectionRules.maximumTarget) bytes."
        case .headTooLong: "The head of the request is too long; send fewer and shorter fields."
        case .expectation: "Of Expect only 100-continue is known here."
        case .version: "Only HTTP/1.0 and HTTP/1.1 are spoken here."
        case .crowded: "Too many connections are open; try again shortly, and keep fewer open."
        case .full: "As many requests wait already as this service keeps waiting; try again shortly."
        }
    }

    var retryAfterSeconds: Int? { [.crowded, .bodiesTooMany, .full].contains(self) ? 1 : nil }

    /// In the words of OpenAI's API.
    var type: String {
        switch self {
        case .crowded, .bodiesTooMany: "server_error"
        case .full: "rate_limit_error"
        default: "invalid_request_error"
        }
    }

    /// What the parser says, in words.
    init(_ error: any Error) {
        switch error as? HTTPParserError {
        case .headerOverflow: self = .headTooLong
        case .invalidVersion: self = .version
        case .some(let error): self = .malformed("\(error)")
        case nil: self = .malformed("a part of its head is not allowed")
        }
    }
}
