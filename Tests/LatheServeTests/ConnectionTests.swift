import NIOCore
import Testing

@testable import LatheServe

/// What a connection survives: every test sends its bytes over a real socket.
@Suite(.timeLimit(.minutes(2))) struct ConnectionTests {
    // MARK: Bodies

    @Test func aLongBodyIsRefusedBeforeItIsSent() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            let wire = try await server.connect()
            try await wire.send("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 1000001\r\n\r\n")
            let reply = try await wire.receiveReply()
            #expect(reply.status == 413 && reply.headers["connection"] == "close")
            #expect(reply.body.contains("body_too_long"))
            #expect(backend.calls.isEmpty)
        }
    }

    @Test func aLongBodyInChunksIsRefusedAtItsMaximum() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            let wire = try await server.connect()
            try await wire.send("POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            let chunk = "10000\r\n" + String(repeating: "x", count: 65536) + "\r\n"
            for _ in 0..<15 { try await wire.send(chunk) }
            // 983 040 bytes are allowed; the next chunk is too much, and then the rest is taken and dropped.
            for _ in 0..<17 { try await wire.send(chunk) }
            #expect(try await wire.receiveReply().status == 413)
            #expect(backend.calls.isEmpty)
            let line = try await server.lines.wait(for: "\"request\"")
            #expect(line.contains("\"status\":413"))
        }
    }

    @Test func aBodyOfExactlyTheMaximumPasses() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            let reply = try await server.ask(Wire.post("/generate", String(repeating: "x", count: 1_000_000)))
            #expect(reply.status == 200 && reply.body.utf8.count == 1_000_000)
            let wire = try await server.connect()
            try await wire.send("POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in 0..<10 { try await wire.send("186a0\r\n" + String(repeating: "y", count: 100_000) + "\r\n") }
            try await wire.send("0\r\n\r\n")
            #expect(try await wire.receiveReply().body.utf8.count == 1_000_000)
        }
    }

    /// Eight bodies of the maximum may be on their way together; small ones always.
    @Test func largeBodiesShareWhatIsPlannedForThem() async throws {
        try await withServer(StubBackend(), .init(maximumBody: 40_000)) { server in
            let head = "POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n"
            // Each holds 23 615 bytes beyond what is free; 320 000 are there for all.
            let almost = String(repeating: "x", count: 39_999)
            var wires: [Wire] = []
            for _ in 0..<13 {
                let wire = try await server.connect()
                try await wire.send(head + almost)
                wires.append(wire)
            }
            // Until all that was sent has been read, there is room.
            var refused = try await server.ask(head + almost + "x")
            while refused.status == 200 { refused = try await server.ask(head + almost + "x") }
            #expect(refused.status == 503 && refused.headers["retry-after"] == "1")
            #expect(refused.body.contains("too_many_large_bodies"))
            #expect(try await server.ask(Wire.post("/generate", "{}")).status == 200)
            for wire in wires {
                try await wire.send("x")
                #expect(try await wire.receiveReply().status == 200)
            }
            // Answered, they hold nothing.
            for wire in wires { try await wire.send(head + almost) }
            wires.removeAll()
            while try await server.ask(head + almost + "x").status != 200 {}
        }
    }

    @Test func expectationIsMet() async throws {
        try await withServer(StubBackend()) { server in
            let wire = try await server.connect()
            let head = "POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: "
            try await wire.send(head + "100-continue\r\n\r\n")
            #expect(try await wire.receiveReply(hasBody: false).status == 100)
            try await wire.send("{}")
            #expect(try await wire.receiveReply().status == 200)
            try await wire.send(head + "miracles\r\n\r\n")
            #expect(try await wire.receiveReply().status == 417)
        }
    }

    // MARK: Slow clients

    @Test func aSlowHeadEndsIn408() async throws {
        try await withServer(StubBackend(), .init(headerTimeout: .milliseconds(200))) { server in
            let wire = try await server.connect()
            // One byte at a time does not prolong it.
            var sent = "GET /health/live HTTP/1.1\r\nHost: a\r\nX-Slow: ".utf8.map { String(UnicodeScalar($0)) }[...]
            let sending = Task {
                while let byte = sent.popFirst() {
                    try await wire.send(byte)
                    try await Task.sleep(for: .milliseconds(20))
                }
                while !Task.isCancelled {
                    try await wire.send("x")
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
            let reply = try await server.lines.wait(for: "\"request\"")
            #expect(reply.contains("\"status\":408"))
            sending.cancel()
            _ = try? await sending.value
            let text = try await wire.receiveAll()
            #expect(text.hasPrefix("HTTP/1.1 408 ") && text.contains("header_timeout"))
        }
    }

    @Test func aSlowBodyEndsIn408() async throws {
        let backend = StubBackend()
        try await withServer(backend, .init(bodyTimeout: .milliseconds(200))) { server in
            let wire = try await server.connect()
            try await wire.send("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
            let text = try await wire.receiveAll()
            #expect(text.hasPrefix("HTTP/1.1 408 ") && text.contains("body_timeout"))
            #expect(backend.calls.isEmpty)
        }
    }

    @Test func aSilentConnectionIsClosedWithoutAWord() async throws {
        try await withServer(StubBackend(), .init(idleTimeout: .seconds(2))) { server in
            let silent = try await server.connect()
            #expect(try await silent.receiveAll() == "")
            let wire = try await server.connect()
            try await wire.send(Wire.get("/health/live"))
            #expect(try await wire.receiveReply().status == 200)
            #expect(try await wire.receiveAll() == "")
        }
    }

    /// FAULT 31: refused by the connection itself, which stays open for whoever keeps to Retry-After.
    @Test func aFullServiceIsNotAsked() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            backend.change { $0.isFull = true }
            let wire = try await server.connect()
            for path in ["/generate", "/v1/completions"] {
                try await wire.send(Wire.post(path, "x"))
                let reply = try await wire.receiveReply()
                #expect(reply.status == 429 && reply.headers["retry-after"] == "1")
                #expect(reply.body.contains(#""code":"queue_full""#) && reply.body.contains("rate_limit_error"))
            }
            // What takes no place in the queue is answered, and so is what comes when there is room.
            try await wire.send(Wire.post("/tokenize", "y"))
            #expect(try await wire.receiveReply().body == "y")
            backend.change { $0.isFull = false }
            try await wire.send(Wire.post("/generate", "z"))
            #expect(try await wire.receiveReply().body == "z")
            #expect(backend.calls.map(\.path) == ["/tokenize", "/generate"])
            let metrics = try await server.ask(Wire.get("/metrics")).body
            #expect(metrics.contains(#"{ending="sent",route="/generate",status="429"} 1"#))
        }
    }

    /// FAULT 31: what one connection asks at once, again and again, is looked at more seldom; nobody else waits for it.
    @Test func aStormOfRefusalsIsPaced() async throws {
        let backend = StubBackend()
        try await withServer(backend, .init(unpacedRefusals: 0)) { server in
            backend.change { $0.isFull = true }
            let wire = try await server.connect()
            let began = ContinuousClock.now
            for count in 1...3 {
                try await wire.send(Wire.post("/generate", "x"))
                #expect(try await wire.receiveReply().status == 429)
                #expect(ContinuousClock.now - began >= .milliseconds(250) * (count - 1))
            }
            // Its next request waits; those of others do not wait for it, and the place that is free is given to it then.
            backend.change { $0.isFull = false }
            try await wire.send(Wire.post("/generate", "late"))
            #expect(try await server.ask(Wire.post("/generate", "soon")).body == "soon")
            #expect(try await wire.receiveReply().body == "late")
            #expect(backend.calls.count == 2)

            // Who goes while he is left alone is forgotten, and the server's end does not wait for him.
            backend.change { $0.isFull = true }
            let gone = try await server.connect()
            for _ in 0..<2 {
                try await gone.send(Wire.post("/generate", "x"))
                #expect(try await gone.receiveReply().status == 429)
            }
            gone.close()
        }
    }

    @Test func refusalsAreCountedByTenthsOfASecond() {
        let pace = RefusalPace(maximum: 2)
        let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
        let pauses = [0, 1, 2, 99, 100, 101, 102].map { pace.pause(now: start + .milliseconds($0)) > .zero }
        #expect(pauses == [false, false, true, true, false, false, true])
    }

    @Test func aReaderThatTakesNothingIsCancelled() async throws {
        let backend = StubBackend()
        try await withServer(backend, .init(writeTimeout: .milliseconds(300))) { server in
            let wire = try await server.connect(receiveBuffer: 4096)
            try await wire.send(Wire.post("/generate", "endless"))
            await backend.wait { $0.cancelled == 1 }
            // What was made before the client's silence was noticed fits the buffers of both ends.
            #expect(backend.eventBytes > 0 && backend.eventBytes < 2 << 20, "\(backend.eventBytes)")
            _ = try await server.lines.wait(for: "\"write-timeout\"")
            withExtendedLifetime(wire) {}
        }
    }

    @Test func aLongDocumentThatNobodyTakesIsDropped() async throws {
        let backend = StubBackend()
        try await withServer(backend, .init(writeTimeout: .milliseconds(300))) { server in
            let wire = try await server.connect(receiveBuffer: 4096)
            try await wire.send(Wire.post("/generate", "big"))
            _ = try await server.lines.wait(for: "\"write-timeout\"")
            while server.application.census.open > 0 { try await Task.sleep(for: .milliseconds(5)) }
            withExtendedLifetime(wire) {}
        }
    }

    // MARK: Clients that go away

    enum Parting: CaseIterable { case close, reset, halfClose }

    /// `hold` is a request in the queue or in prefill: nothing has been written. `stall` and `endless` stream.
    @Test(arguments: ["hold", "stall", "endless"], Parting.allCases)
    func aClientThatGoesAwayCancelsItsWork(work: String, parting: Parting) async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            let wire = try await server.connect()
            try await wire.send(Wire.post("/generate", work))
            await backend.wait { $0.calls.count == 1 }
            if work != "hold" { _ = try await wire.receive(through: "data: ") }
            switch parting {
            case .close: wire.close()
            case .reset: wire.reset()
            case .halfClose: wire.endSending()
            }
            await backend.wait { $0.cancelled >= 1 }
            let line = try await server.lines.wait(for: "\"request\"")
            #expect(line.contains("\"client-gone\""))
            while server.application.census.open > 0 { try await Task.sleep(for: .milliseconds(5)) }
        }
    }

    @Test func aClientThatGoesAwayWhileItSendsIsForgotten() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            for start in ["", "G", "GET / HT", "POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"] {
                let wire = try await server.connect()
                try await wire.send(start)
                wire.close()
            }
            #expect(try await server.ask(Wire.get("/health/live")).status == 200)
            while server.application.census.open > 0 { try await Task.sleep(for: .milliseconds(5)) }
            #expect(backend.calls.isEmpty)
        }
    }

    @Test func whatIsSentAheadDoesNotHideThatAClientWent() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            let wire = try await server.connect()
            try await wire.send(Wire.post("/generate", "hold"))
            await backend.wait { $0.calls.count == 1 }
            let ahead = Array(String(repeating: Wire.post("/generate", "x"), count: 200_000).utf8)
            let sent = try await wire.sendWithoutPatience(ahead)
            // Reading stops after a bound; what is sent beyond that stays with the system.
            #expect(sent < ahead.count)
            wire.reset()
            await backend.wait { $0.cancelled == 1 }
            #expect(backend.calls.count == 1)
        }
    }

    // MARK: HTTP as it should not be, or seldom is

    @Test(arguments: [
        ("GARBAGE\r\n\r\n", 400), ("GET /\r\n\r\n", 505), ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\u{0}b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n", 400),
        ("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        ("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        ("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400),
        ("POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        ("GET /\(String(repeating: "a", count: 5000)) HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \(String(repeating: "a", count: 20000))\r\n\r\n", 431),
        ("GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "X: y\r\n", count: 200) + "\r\n", 431),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400), ("GET / HTTP/3.7\r\nHost: a\r\n\r\n", 505),
        ("\u{16}\u{3}\u{1}\u{0}\u{5}hello TLS", 400),
    ])
    func refusesWhatIsNoHTTP(bytes: String, status: Int) async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            let wire = try await server.connect()
            try await wire.send(bytes)
            let text = try await wire.receiveAll()
            #expect(text.hasPrefix("HTTP/1.1 \(status) "), "\(text)")
            #expect(text.contains("{\"error\":{") && text.lowercased().contains("\r\nconnection: close\r\n"))
            #expect(backend.calls.isEmpty)
            #expect(try await server.ask(Wire.get("/health/live")).status == 200)
        }
    }

    @Test func oldClientsAreAnsweredInTheirVersion() async throws {
        try await withServer(StubBackend()) { server in
            let plain = try await server.connect()
            try await plain.send("GET /health/live HTTP/1.0\r\n\r\n")
            let text = try await plain.receiveAll()
            #expect(text.hasPrefix("HTTP/1.0 200 ") && text.hasSuffix(#"{"status":"live"}"#))
            let stream = try await server.connect()
            try await stream.send("POST /generate HTTP/1.0\r\nContent-Length: 6\r\n\r\nevents")
            let events = try await stream.receiveAll()
            #expect(events.hasSuffix("\r\n\r\ndata: 1\n\ndata: 2\n\ndata: 3\n\n"))
            #expect(!events.lowercased().contains("chunked"))
        }
    }

    @Test func requestsSentAtOnceAreAnsweredInOrder() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            let wire = try await server.connect()
            var requests = ""
            for number in 0..<50 {
                requests += number % 2 == 0 ? Wire.post("/generate", "\(number)") : Wire.get("/health/live")
            }
            requests += Wire.post("/generate", "last", "Connection: close\r\n") + Wire.post("/generate", "never")
            try await wire.send(requests)
            for number in 0..<50 {
                let body = try await wire.receiveReply().body
                #expect(body == (number % 2 == 0 ? "\(number)" : #"{"status":"live"}"#))
            }
            let last = try await wire.receiveReply()
            #expect(last.body == "last" && last.headers["connection"] == "close")
            #expect(try await wire.receiveAll() == "")
            #expect(backend.calls.count == 26)
        }
    }

    @Test func garbageBehindARequestDoesNotSpoilIt() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            let wire = try await server.connect()
            try await wire.send(Wire.post("/generate", "hold") + "GARBAGE\r\n\r\n")
            await backend.wait { $0.calls.count == 1 }
            backend.release()
            let reply = try await wire.receiveReply()
            #expect(reply.status == 200 && reply.body == "held")
            #expect(try await wire.receiveAll().hasPrefix("HTTP/1.1 400 "))
        }
    }

    @Test func aRequestInPiecesOfOneByte() async throws {
        try await withServer(StubBackend()) { server in
            let wire = try await server.connect()
            for byte in Wire.post("/generate", "{}").utf8 { try await wire.send([byte]) }
            #expect(try await wire.receiveReply().body == "{}")
        }
    }

    // MARK: Many connections

    @Test func beyondTheMaximumAllButHealthIsRefused() async throws {
        let backend = StubBackend()
        try await withServer(backend, .init(maximumConnections: 3)) { server in
            var held: [Wire] = []
            for _ in 0..<3 {
                let wire = try await server.connect()
                try await wire.send(Wire.post("/generate", "hold"))
                held.append(wire)
            }
            await backend.wait { $0.calls.count == 3 }
            let refused = try await server.ask(Wire.post("/generate", "{}"))
            #expect(refused.status == 503 && refused.headers["retry-after"] == "1")
            #expect(refused.body.contains("too_many_connections"))
            #expect(try await server.ask(Wire.get("/health/ready")).status == 200)
            #expect(try await server.ask(Wire.get("/metrics")).body.contains("lathe_http_connections_maximum 3\n"))
            backend.release()
            for wire in held {
                #expect(try await wire.receiveReply().body == "held")
                wire.close()
            }
            while server.application.census.open > 2 { try await Task.sleep(for: .milliseconds(5)) }
            #expect(try await server.ask(Wire.post("/generate", "{}")).status == 200)
        }
    }

    @Test func stormsOfConnectionsLeaveNothingBehind() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            try await withThrowingTaskGroup(of: Void.self) { clients in
                for client in 0..<32 {
                    clients.addTask {
                        // Kept alive: many requests on one connection.
                        let wire = try await server.connect()
                        for number in 0..<40 {
                            try await wire.send(Wire.post("/tokenize", "\(client)-\(number)"))
                            #expect(try await wire.receiveReply().body == "\(client)-\(number)")
                        }
                        // Opened and left at once, with and without a word.
                        for number in 0..<20 {
                            let short = try await server.connect()
                            if number % 2 == 0 { try await short.send("GET /health/li") }
                            if number % 3 == 0 { short.reset() } else { short.close() }
                        }
                    }
                }
                try await clients.waitForAll()
            }
            #expect(backend.calls.count == 32 * 40)
            #expect(backend.cancelled == 0)
            while server.application.census.open > 0 { try await Task.sleep(for: .milliseconds(5)) }
        }
    }
}
