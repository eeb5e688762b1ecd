import HTTPTypes
import Hummingbird
import HummingbirdCore
import LatheService
import NIOCore
import Synchronization

/// Answers one request: finds its route, checks what every request must show, asks the service, writes the reply.
struct Responder: HTTPResponder {
    struct Context: InitializableFromSource {
        init(source: ApplicationRequestContextSource) {}
    }

    let backend: any Backend
    let readiness: Readiness
    let keys: KeyRing?
    let metrics: PrometheusRegistry
    let census: Census
    let observer: RequestObserver
    let maximumBody: Int
    let openAPI: [UInt8]

    func respond(to request: Request, context: Context) async throws -> Response {
        let connection = Connection.current ?? Connection(peer: "local")
        let id = observer.identifier(sent: request.headers[.requestID])
        let path = request.head.path?.prefix { $0 != "?" } ?? ""
        let route = Route(rawValue: String(path))
        connection.update { exchange in
            exchange.id = id
            exchange.route = route?.rawValue ?? "other"
        }
        var response = await answer(request, route, connection)
        response.headers[.requestID] = id
        return response
    }

    private func answer(_ request: Request, _ route: Route?, _ connection: Connection) async -> Response {
        guard let route else {
            return refusal(404, "There is nothing at this path; see /openapi.json.", code: "not_found")
        }
        guard route.allows(request.method.rawValue) else {
            var response = refusal(
                405, "\(route.rawValue) answers \(route.allowed) alone.", code: "method_not_allowed")
            response.headers[.allow] = route.allowed
            return response
        }
        var client = connection.peer
        if let keys, route.needsKey {
            guard let number = keys.number(in: request.headers[.authorization]) else {
                var response = refusal(
                    401, "Send a key that this server knows as `Authorization: Bearer KEY`.", code: "invalid_api_key",
                    type: "authentication_error")
                response.headers[.wwwAuthenticate] = "Bearer"
                return response
            }
            client = "key \(number)"
        }
        switch route {
        case .live: return Self.response(200, Array(#"{"status":"live"}"#.utf8))
        case .ready: return readinessReply
        case .metrics:
            backend.refreshMetrics()
            metrics.gauge("lathe_http_connections").set(Int64(census.open))
            metrics.gauge("lathe_http_connections_maximum").set(Int64(census.maximum))
            return Self.response(200, metrics.exposition(), type: "text/plain; version=0.0.4; charset=utf-8")
        case .openAPI: return Self.response(200, openAPI)
        case .models: return Self.response(backend.models())
        case .memory: return Self.response(backend.memory())
        case .generate, .completions, .tokenize, .detokenize:
            if let refusal = refusalOfContent(request) { return refusal }
            return await ask(request, route, client: client, connection)
        }
    }

    private var readinessReply: Response {
        if readiness.isDraining { return Self.response(503, Array(#"{"status":"draining"}"#.utf8)) }
        if !backend.isReady { return Self.response(503, Array(#"{"status":"warming up"}"#.utf8)) }
        return Self.response(200, Array(#"{"status":"ready"}"#.utf8))
    }

    private func refusalOfContent(_ request: Request) -> Response? {
        if let encoding = request.headers[.contentEncoding], encoding.lowercased() != "identity" {
            return refusal(
                415, "Bodies are read as they are; send this one without Content-Encoding.", code: "encoding")
        }
        // Nothing said is taken for JSON: so do the clients that this server replaces.
        guard let type = request.headers[.contentType] else { return nil }
        let essence = type.prefix { $0 != ";" }.lowercased().filter { $0 != " " && $0 != "\t" }
        if essence == "application/json" { return nil }
        return refusal(415, "Bodies are JSON; send this one with `Content-Type: application/json`.", code: "media_type")
    }

    private func ask(
        _ request: Request, _ route: Route, client: String, _ connection: Connection
    ) async -> Response {
        if readiness.isDraining {
            return refusal(
                503, "The server is shutting down; ask another one.", code: "draining", type: "server_error",
                retryAfterSeconds: 1)
        }
        let body: ByteBuffer
        do {
            // It has come in full, and within the maximum, before this task was told of it.
            body = try await request.body.collect(upTo: maximumBody)
        } catch {
            return refusal(413, "The body is longer than \(maximumBody) bytes.", code: "body_too_long")
        }
        let call = ServiceCall(
            path: route.rawValue, body: Array(body.readableBytesView), client: client,
            received: connection.exchange?.received ?? .now)
        if route.generates { connection.update { $0.tokens = call.tokens } }
        switch await backend.reply(to: call) {
        case .document(let document): return Self.response(document)
        case .events(let events): return Self.stream(events, connection)
        }
    }

    // MARK: - Replies

    private static func stream(_ events: ServiceEvents, _ connection: Connection) -> Response {
        let body = ResponseBody { writer in
            var iterator = events.makeAsyncIterator()
            do {
                while let event = await iterator.next() {
                    connection.update { $0.events += 1 }
                    try await writer.write(ByteBuffer(bytes: event))
                }
            } catch {
                // The events must hear that the client is gone: asked once more by a cancelled task, they end their work
                // now, and not only when somebody lets go of them.
                connection.end()
                _ = await iterator.next()
                throw error
            }
            // A stream that was cut must not end as if it were whole.
            try Task.checkCancellation()
            try await writer.finish(nil)
        }
        return Response(
            status: .ok, headers: [.contentType: "text/event-stream; charset=utf-8", .cacheControl: "no-cache"],
            body: body)
    }

    static func response(_ document: ServiceDocument) -> Response {
        var response = response(document.status, document.body)
        if let seconds = document.retryAfterSeconds { response.headers[.retryAfter] = String(seconds) }
        return response
    }

    static func response(_ status: Int, _ body: [UInt8], type: String = "application/json") -> Response {
        Response(
            status: .init(code: status), headers: [.contentType: type],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: body)))
    }

    private func refusal(
        _ status: Int, _ message: String, code: String, type: String = "invalid_request_error",
        retryAfterSeconds: Int? = nil
    ) -> Response {
        Self.response(
            ServiceDocument(
                ServiceError(
                    status: status, type: type, message: message, code: code, retryAfterSeconds: retryAfterSeconds)))
    }
}

/// Whether the server takes new work; what the backend says of itself comes on top.
final class Readiness: Sendable {
    private let draining = Atomic(false)
    var isDraining: Bool { draining.load(ordering: .relaxed) }
    func beginDraining() { draining.store(true, ordering: .relaxed) }
}

extension HTTPField.Name {
    static let requestID = HTTPField.Name("x-request-id")!
    static let retryAfter = HTTPField.Name("retry-after")!
}
