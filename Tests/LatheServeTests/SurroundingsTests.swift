#if os(Linux)
    import Foundation
    import Testing
    import TestSupport

    #if canImport(Glibc)
        import Glibc
    #endif

    /// The built server where the world is not as usual (FAULTS 40, 42).
    @Suite(.timeLimit(.minutes(5))) struct SurroundingsTests {
        private func ask(_ port: Int, _ request: String) async throws -> Wire.Reply {
            let wire = try await Wire(port: port)
            try await wire.send(request)
            return try await wire.receiveReply()
        }

        private static let request = Wire.post("/generate", #"{"prompt":"The sea","max_new_tokens":30,"seed":1}"#)

        /// What a server on an ordinary system says.
        private func expected() async throws -> String {
            let server = try ServerProcess(["--model", try ServerProcess.novelist(), "--port", "0"])
            let port = try await server.port()
            _ = try await server.line(with: "\"ready\"")
            let reply = try await ask(port, Self.request)
            #expect(reply.status == 200)
            withExtendedLifetime(server) {}
            return reply.body
        }

        @Test(.enabled(if: ChangedSurroundings.compiler != nil, "no C compiler here"))
        func aClockThatJumpsChangesNothing() async throws {
            let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
                "lathe-clock-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: folder) }
            let library = try ChangedSurroundings.jumpingClock(in: folder.path)
            let server = try ServerProcess(
                ["--model", try ServerProcess.novelist(), "--port", "0", "--header-timeout", "0.3"],
                environment: ["LD_PRELOAD": library])
            let port = try await server.port()
            _ = try await server.line(with: "\"ready\"")
            let body = try await expected()
            for _ in 0..<20 {
                let reply = try await ask(port, Self.request)
                #expect(reply.status == 200 && reply.body == body)
            }
            // Deadlines pass when they should, whatever the day.
            let slow = try await Wire(port: port)
            try await slow.send("GET /health/live HTTP/1.1\r\nX-Slow: ")
            #expect(try await slow.receiveReply().status == 408)
            let metrics = try await ask(port, Wire.get("/metrics")).body
            let line = try #require(
                metrics.split(separator: "\n").first { $0.hasPrefix("lathe_e2e_request_latency_seconds_sum ") })
            let seconds = try #require(Double(line.split(separator: " ").last!))
            #expect(seconds >= 0 && seconds < 80_000)
            kill(server.process.processIdentifier, SIGTERM)
            #expect(try await server.end() == 0)
            // That the clock did jump: the log's lines are of three days.
            let days = Set(server.errors.split(separator: "\n").compactMap { $0.split(separator: "T").first })
            #expect(days.count >= 3, "\(server.errors)")
        }

        @Test(.enabled(if: ChangedSurroundings.canUnshareMounts, "no mount namespace can be made here"))
        func nothingNeedsToBeWritten() async throws {
            let server = try ServerProcess(
                ["--model", try ServerProcess.novelist(), "--port", "0"], preparation: ChangedSurroundings.readOnly)
            let port = try await server.port()
            _ = try await server.line(with: "\"ready\"")
            #expect(try await ask(port, Self.request).body == (try await expected()))
            kill(server.process.processIdentifier, SIGTERM)
            #expect(try await server.end() == 0)
        }

        /// Neither arguments nor the language's own threads can be relied on there, so it says so and ends.
        @Test(.enabled(if: ChangedSurroundings.canUnshareMounts, "no mount namespace can be made here"))
        func withoutProcItSaysSo() async throws {
            let server = try ServerProcess(
                ["--model", try ServerProcess.novelist(), "--port", "0"], preparation: ChangedSurroundings.withoutProc)
            #expect(try await server.end() == 1)
            #expect(
                server.errors == "lathe-serve: The arguments cannot be read, because /proc is not mounted; mount it.\n")
        }

        /// FAULT 40: a hard limit of 700 MB, a plan that fills it, and every slot of it full at once.
        @Test(.enabled(if: LimitedGroup.canBeMade("memory"), "no control group can be made here"))
        func staysWithin700MegabytesWithAllSlotsFull() async throws {
            let group = try LimitedGroup(controller: "memory", limits: LimitedGroup.memory(700_000_000))
            // A context of 512 tokens takes 4.7 MB.
            let server = try ServerProcess(
                ["--model", try ServerProcess.novelist(), "--port", "0", "--sessions", "128", "--queue", "400"],
                preparation: group.entry)
            let port = try await server.port()
            _ = try await server.line(with: "\"ready\"")
            func memory() async throws -> [String: Any] {
                let body = try await ask(port, Wire.get("/v1/memory")).body
                return try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any] ?? [:]
            }
            func cache(_ memory: [String: Any], _ field: String) throws -> Int {
                try #require((memory["kv_cache"] as? [String: Int])?[field])
            }
            let before = try await memory()
            let planned = try #require(before["planned_bytes"] as? Int)
            #expect(planned <= 700_000_000 && planned > 690_000_000)
            let slots = try cache(before, "tokens") / 512
            #expect(slots > 100)
            // More sequences than fit, eight to a request: the last ones wait, and nobody is refused. Short prompts and long
            // continuations: the last slot fills before the first is given back.
            let ids = "[" + (0..<32).map { "\($0)" }.joined(separator: ",") + "]"
            let prompts = Array(repeating: ids, count: 8).joined(separator: ",")
            let body = #"{"prompt":[\#(prompts)],"max_tokens":480,"ignore_eos":true,"seed":1}"#
            let count = slots / 8 + 3
            let statuses = try await withThrowingTaskGroup(of: Int.self) { tasks in
                for _ in 0..<count {
                    tasks.addTask { try await ask(port, Wire.post("/v1/completions", body)).status }
                }
                while try cache(try await memory(), "promised_tokens") < slots * 512 {}
                return try await tasks.reduce(into: [Int]()) { $0.append($1) }
            }
            #expect(statuses.count == count && statuses.allSatisfy { $0 == 200 })
            let peak = try #require(try await memory()["peak_resident_bytes"] as? Int)
            // It was really written to, and never over.
            #expect(peak > 590_000_000 && peak < 700_000_000, "\(peak)")
            #expect(group.killCount == 0)
            kill(server.process.processIdentifier, SIGTERM)
            #expect(try await server.end() == 0)
        }
    }
#endif
