import Testing

@testable import LatheServe

/// From the first connection to the last.
@Suite(.timeLimit(.minutes(2))) struct LifecycleTests {
    @Test func readyOnlyAfterTheWarmUp() async throws {
        let backend = StubBackend(isReady: false, warmUpHolds: true)
        try await withServer(backend) { server in
            let before = try await server.ask(Wire.get("/health/ready"))
            #expect(before.status == 503 && before.body.contains("warming up"))
            #expect(try await server.ask(Wire.get("/health/live")).status == 200)
            backend.change { $0.isReady = true }
            #expect(try await server.ask(Wire.get("/health/ready")).status == 200)
        }
    }

    @Test func drainsWhileHealthIsStillAnswered() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            let running = try await server.connect()
            try await running.send(Wire.post("/generate", "hold"))
            await backend.wait { $0.calls.count == 1 }
            let kept = try await server.connect()
            try await kept.send(Wire.get("/health/ready"))
            #expect(try await kept.receiveReply().status == 200)

            await server.services.triggerGracefulShutdown()
            await backend.wait { $0.drains == 1 }
            // On a connection from before, and on a new one.
            try await kept.send(Wire.get("/health/ready"))
            let ready = try await kept.receiveReply()
            #expect(ready.status == 503 && ready.body.contains("draining"))
            #expect(try await server.ask(Wire.get("/health/ready")).status == 503)
            #expect(try await server.ask(Wire.get("/health/live")).status == 200)
            let refused = try await server.ask(Wire.post("/generate", "{}"))
            #expect(refused.status == 503 && refused.headers["retry-after"] == "1")

            backend.release()
            #expect(try await running.receiveReply().body == "held")
            // Then every connection ends, and none is accepted.
            #expect(try await kept.receiveAll() == "")
            #expect(try await running.receiveAll() == "")
            while let wire = try? await server.connect() { wire.close() }
        }
        #expect(backend.calls.count == 1)
    }

    @Test func endsAtOnceWhereNothingRuns() async throws {
        let backend = StubBackend()
        try await withServer(backend) { server in
            await server.services.triggerGracefulShutdown()
            while let wire = try? await server.connect() { wire.close() }
        }
        #expect(backend.cancelled == 0)
    }
}
