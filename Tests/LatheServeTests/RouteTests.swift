import LatheFormat
import Testing

@testable import LatheServe

/// What is answered to well-formed requests.
@Suite(.timeLimit(.minutes(2))) struct RouteTests {
    @Test func everyRouteAnswers() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            for route in Route.allCases {
                let reply = try await server.ask(
                    route.method == "GET" ? Wire.get(route.rawValue) : Wire.post(route.rawValue, "{\"a\":1}"))
                #expect(reply.status == 200, "\(route)")
                #expect(!reply.body.isEmpty)
                let type = route == .metrics ? "text/plain; version=0.0.4; charset=utf-8" : "application/json"
                #expect(reply.headers["content-type"] == type)
                #expect(reply.headers["x-request-id"]?.isEmpty == false)
            }
            #expect(backend.calls.map(\.path) == ["/generate", "/v1/completions", "/tokenize", "/detokenize"])
            #expect(backend.calls.allSatisfy { $0.client == "127.0.0.1" && $0.body == Array("{\"a\":1}".utf8) })
        }
    }

    @Test(arguments: [
        (Wire.get("/nothing"), 404, "not_found"), (Wire.get("/generate"), 405, "method_not_allowed"),
        (Wire.post("/metrics", "{}"), 405, "method_not_allowed"),
        (Wire.post("/generate", "a=b", "Content-Type: application/x-www-form-urlencoded\r\n"), 415, "media_type"),
        (Wire.post("/generate", "{}", "Content-Encoding: gzip\r\n"), 415, "encoding"),
    ])
    func refusesInOneShape(request: String, status: Int, code: String) async throws {
        try await withServer(StubBackend()) { server in
            let reply = try await server.ask(request)
            #expect(reply.status == status)
            let error = try JSON.parse(Array(reply.body.utf8), source: "reply").object(at: "reply")
                .value("error", in: "reply").object(at: "error")
            #expect(try error.string("code", in: "error") == code)
            #expect(try !error.string("message", in: "error").isEmpty)
            #expect(try error.string("type", in: "error") == "invalid_request_error")
            #expect(error.contains("param"))
            if status == 405 { #expect(reply.headers["allow"] != nil) }
        }
    }

    @Test func passesContentTypesOfJSON() async throws {
        try await withServer(StubBackend()) { server in
            for type in ["application/json", "Application/JSON; charset=utf-8", "application/json ;x=y"] {
                let reply = try await server.ask(Wire.post("/generate", "{}", "Content-Type: \(type)\r\n"))
                #expect(reply.status == 200, "\(type)")
            }
        }
    }

    @Test func repliesOfTheServicePassUnchanged() async throws {
        try await withServer(StubBackend()) { server in
            let reply = try await server.ask(Wire.post("/generate", "refuse"))
            #expect(reply.status == 429 && reply.headers["retry-after"] == "7" && reply.body == "{}")
            let big = try await server.ask(Wire.post("/generate", "big"))
            #expect(big.body.utf8.count == 4 << 20)
        }
    }

    @Test func requestIdentifiersAreEchoedWhereFit() async throws {
        try await withServer(StubBackend()) { server in
            let sane = try await server.ask(Wire.get("/health/live", "X-Request-ID: abc-1.2:3_4\r\n"))
            #expect(sane.headers["x-request-id"] == "abc-1.2:3_4")
            for text in ["a b", String(repeating: "a", count: 65), "\"", "{}"] {
                let reply = try await server.ask(Wire.get("/health/live", "X-Request-ID: \(text)\r\n"))
                #expect(reply.headers["x-request-id"] != text && reply.status == 200)
            }
        }
    }

    @Test func headHasNoBody() async throws {
        try await withServer(StubBackend()) { server in
            let wire = try await server.connect()
            try await wire.send("HEAD /v1/models HTTP/1.1\r\nHost: a\r\n\r\n" + Wire.get("/health/live"))
            let head = try await wire.receiveReply(hasBody: false)
            #expect(head.status == 200 && head.headers["content-length"] == "17")
            #expect(try await wire.receiveReply().body == #"{"status":"live"}"#)
        }
    }

    @Test func streamsEvents() async throws {
        try await withServer(StubBackend()) { server in
            let wire = try await server.connect()
            try await wire.send(Wire.post("/generate", "events"))
            let text = try await wire.receive(through: "0\r\n\r\n")
            #expect(text.contains("text/event-stream"))
            for number in 1...3 { #expect(text.contains("\r\ndata: \(number)\n\n\r\n")) }
            let line = try await server.lines.wait(for: "\"request\"", "\"/generate\"")
            #expect(line.contains("\"events\":3") && line.contains("\"status\":200") && line.contains("\"sent\""))
        }
    }

    @Test func logsNeitherPromptsNorKeys() async throws {
        let keys = try KeyRing("very-secret-key\n", source: "keys")
        try await withServer(StubBackend(), .init(keys: keys)) { server in
            let fields = "Authorization: Bearer very-secret-key\r\n"
            let reply = try await server.ask(Wire.post("/generate?prompt=secret-query", "secret-prompt", fields))
            #expect(reply.status == 200)
            let line = try await server.lines.wait(for: "\"request\"", "\"/generate\"")
            #expect(try JSON.parse(Array(line.utf8), source: "log").object(at: "log")["status"] == 200)
            #expect(!server.lines.all.contains { $0.contains("secret") })
        }
    }

    @Test func metricsCountRequests() async throws {
        try await withServer(StubBackend()) { server in
            for _ in 0..<3 { _ = try await server.ask(Wire.post("/tokenize", "{}")) }
            _ = try await server.ask(Wire.get("/x\"y"))
            _ = try await server.lines.wait(for: "\"other\"")
            let text = try await server.ask(Wire.get("/metrics")).body
            #expect(
                text.contains(#"lathe_http_requests_total{ending="sent",route="/tokenize",status="200"} 3"#), "\(text)")
            #expect(text.contains(#"lathe_http_requests_total{ending="sent",route="other",status="404"} 1"#))
            #expect(text.contains(#"lathe_http_request_duration_seconds_count{route="/tokenize",status="200"} 3"#))
            #expect(text.contains("\nlathe_http_connections "))
        }
    }
}

@Suite(.timeLimit(.minutes(2))) struct KeyTests {
    @Test func keysAreAskedForEverywhereButForHealth() async throws {
        let keys = try KeyRing("# comment\nfirst-key-1\n\n  second-key-2  \r\n", source: "keys")
        let backend = StubBackend()
        try await withServer(backend, .init(keys: keys)) { server in
            for route in Route.allCases {
                func ask(_ fields: String) async throws -> Wire.Reply {
                    try await server.ask(
                        route.method == "GET"
                            ? Wire.get(route.rawValue, fields) : Wire.post(route.rawValue, "{}", fields))
                }
                let isOpen = route == .live || route == .ready
                for wrong in [
                    "", "Authorization: Bearer \r\n", "Authorization: Bearer first-key-2\r\n",
                    "Authorization: Basic first-key-1\r\n", "Authorization: Bearer first-key-1x\r\n",
                    "Authorization: Bearer first-key-\r\n", "Authorization: Bearer # comment\r\n",
                ] {
                    let reply = try await ask(wrong)
                    #expect(reply.status == (isOpen ? 200 : 401), "\(route) \(wrong)")
                    if !isOpen { #expect(reply.headers["www-authenticate"] == "bearer") }
                }
                #expect(try await ask("Authorization: Bearer first-key-1\r\n").status == 200)
                #expect(try await ask("authorization: bearer second-key-2\r\n").status == 200)
            }
            #expect(Set(backend.calls.map(\.client)) == ["key 1", "key 2"])
        }
    }

    @Test(arguments: [
        ("short\n", "line 1"), ("\nlong enough but spaced\n", "line 2"), ("schlüssel-lang\n", "line 1"),
        ("#\n", "no key"),
    ])
    func refusesFilesOfKeys(text: String, part: String) {
        #expect {
            try KeyRing(text, source: "keys")
        } throws: { error in
            let message = (error as? LatheError)?.message ?? ""
            return message.contains(part) && !message.contains("long enough") && !message.contains("short\"")
        }
    }

    @Test(arguments: [
        ("127.0.0.1", true), ("127.1.2.3", true), ("localhost", true), ("::1", true), ("0.0.0.0", false), ("::", false),
        ("127.evil.example", false), ("10.0.0.1", false), ("127.0.0.1.evil.example", false),
    ])
    func knowsLoopback(host: String, isLoopback: Bool) {
        #expect(ServeApplication.Configuration.isLoopback(host) == isLoopback)
        var configuration = ServeApplication.Configuration()
        configuration.host = host
        #expect(configuration.isOpenWithoutKeys == !isLoopback)
        #expect(configuration.openHostWarning.split(separator: "\n").count >= 5)
        configuration.keys = try? KeyRing("a-long-key", source: "keys")
        #expect(!configuration.isOpenWithoutKeys)
    }
}
