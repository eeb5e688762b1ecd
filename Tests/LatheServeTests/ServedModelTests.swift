import Foundation
import Lathe
import LatheFormat
import Testing

@testable import LatheServe

#if canImport(Glibc)
    import Glibc
#endif

/// The built server with the bundled model behind it: what a user sees, from outside the process.
@Suite(.timeLimit(.minutes(5))) struct ServedModelTests {
    private static let long = #"{"prompt":"The sea","max_tokens":400,"ignore_eos":true,"temperature":0,"stream":true}"#

    private func start(_ options: String...) async throws -> (server: ServerProcess, port: Int) {
        let server = try ServerProcess(["--model", try ServerProcess.novelist(), "--port", "0"] + options)
        let port = try await server.port()
        _ = try await server.line(with: "\"ready\"")
        return (server, port)
    }

    private func ask(_ port: Int, _ request: String) async throws -> Wire.Reply {
        let wire = try await Wire(port: port)
        try await wire.send(request)
        return try await wire.receiveReply()
    }

    private func json(_ reply: Wire.Reply) throws -> JSONObject {
        try JSON.parse(Array(reply.body.utf8), source: "the reply").object(at: "the reply")
    }

    private func memory(_ port: Int, _ group: String, _ field: String) async throws -> Int {
        let report = try json(try await ask(port, Wire.get("/v1/memory")))
        return try report.object(group, in: "memory").int(field, in: group)
    }

    /// Waits for what the server says of itself; the suite's time limit ends a wait for what never comes.
    private func eventually(_ port: Int, _ field: String, is count: Int) async throws {
        while try await memory(port, "sessions", field) != count { try await Task.sleep(for: .milliseconds(2)) }
    }

    @Test func saysWhatTheLibrarySays() async throws {
        let (server, port) = try await start()
        defer { withExtendedLifetime(server) {} }
        let reply = try await ask(port, Wire.post("/generate", #"{"prompt":"The sea","max_new_tokens":20}"#))
        let model = try Model.open(try ServerProcess.novelist())
        var options = GenerationOptions()
        options.maximumTokens = 20
        var text = "The sea"
        let session = try Engine(model: model).makeSession()
        for try await token in try session.generate(model.tokenizer!.encode("The sea"), options: options) {
            text += token.text
        }
        #expect(reply.status == 200)
        #expect(try json(reply).string("generated_text", in: "reply") == text)
    }

    /// FAULT 34: gone while queued, and in the middle of a stream.
    @Test func clientsThatGoFreeTheirPlaces() async throws {
        let (server, port) = try await start("--sessions", "1", "--context", "512")
        defer { withExtendedLifetime(server) {} }
        for _ in 0..<5 {
            let running = try await Wire(port: port)
            try await running.send(Wire.post("/v1/completions", Self.long))
            _ = try await running.receive(through: "data: ")
            let waiting = try await Wire(port: port)
            try await waiting.send(Wire.post("/v1/completions", Self.long))
            waiting.reset()
            running.close()
            try await eventually(port, "running", is: 0)
            try await eventually(port, "waiting", is: 0)
        }
        #expect(try await memory(port, "kv_cache", "promised_tokens") == 0)
        // The one slot is free.
        let reply = try await ask(port, Wire.post("/generate", #"{"prompt":"A","max_new_tokens":2}"#))
        #expect(reply.status == 200)
    }

    /// FAULT 31, by counts: far more than fits is refused with Retry-After, and all that was admitted is answered.
    @Test func overloadIsRefusedNotKept() async throws {
        let (server, port) = try await start("--sessions", "2", "--queue", "4", "--memory-budget", "200MB")
        _ = try await ask(port, Wire.post("/generate", #"{"prompt":"A","max_new_tokens":60}"#))
        let replies = try await withThrowingTaskGroup(of: Wire.Reply.self) { group in
            for _ in 0..<200 {
                group.addTask {
                    try await ask(
                        port,
                        Wire.post("/generate", #"{"prompt":"The sea","max_new_tokens":60,"ignore_eos":true,"seed":1}"#))
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        let served = replies.filter { $0.status == 200 }
        let refused = replies.filter { $0.status == 429 }
        #expect(served.count + refused.count == 200 && served.count >= 6 && !refused.isEmpty)
        #expect(refused.allSatisfy { $0.headers["retry-after"] != nil })
        #expect(Set(served.map(\.body)).count == 1)
        #expect(server.process.isRunning)
        let report = try json(try await ask(port, Wire.get("/v1/memory")))
        #expect(try report.int("peak_resident_bytes", in: "memory") < 200_000_000)
    }

    /// FAULT 39: what runs may end within the grace, nothing new begins; and after kill −9 there is nothing to repair.
    @Test func endsWhatRunsBeforeItGoes() async throws {
        let (server, port) = try await start("--context", "512", "--shutdown-grace", "200")
        let ready = try await Wire(port: port)
        let refused = try await Wire(port: port)
        let live = try await Wire(port: port)
        // Enough of them that they still run when the questions below are asked.
        var wires: [Wire] = []
        for _ in 0..<16 {
            let wire = try await Wire(port: port)
            try await wire.send(Wire.post("/v1/completions", Self.long))
            wires.append(wire)
        }
        for wire in wires { _ = try await wire.receive(through: "data: ") }
        kill(server.process.processIdentifier, SIGTERM)
        _ = try await server.line(with: "\"signal\"")
        // Still in its grace, and already no longer for new requests.
        try await ready.send(Wire.get("/health/ready"))
        try await refused.send(Wire.post("/generate", #"{"prompt":"A"}"#))
        try await live.send(Wire.get("/health/live"))
        let readiness = try await ready.receiveReply()
        #expect(readiness.status == 503 && readiness.body.contains("draining"))
        #expect(try await refused.receiveReply().status == 503)
        #expect(try await live.receiveReply().status == 200)
        for wire in wires { #expect(try await wire.receiveAll().contains("data: [DONE]")) }
        #expect(try await server.end() == 0)

        let (other, otherPort) = try await start()
        let victim = try await Wire(port: otherPort)
        try await victim.send(Wire.post("/v1/completions", Self.long))
        kill(other.process.processIdentifier, SIGKILL)
        #expect(try await other.end() == -SIGKILL)
        let (third, again) = try await start()
        defer { withExtendedLifetime(third) {} }
        #expect(try await ask(again, Wire.get("/health/ready")).status == 200)
    }

    /// FAULT 10: the file becomes shorter while it is mapped.
    @Test func aModelThatIsTruncatedEndsItWithASentence() async throws {
        let path = try ServerProcess.novelist() + ".copy"
        try FileManager.default.copyItem(atPath: try ServerProcess.novelist(), toPath: path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let server = try ServerProcess(["--model", path, "--port", "0"])
        let port = try await server.port()
        _ = try await server.line(with: "\"ready\"")
        try FileHandle(forWritingTo: URL(fileURLWithPath: path)).truncate(atOffset: 8192)
        let wire = try await Wire(port: port)
        try await wire.send(Wire.post("/v1/completions", Self.long))
        #expect(try await server.end() == 1)
        let last = server.errors.split(separator: "\n").last ?? ""
        #expect(last.hasPrefix("lathe-serve: ") && last.contains(".copy became shorter"), "\(server.errors)")
    }

    /// What `lathe plan --serve` prints is the limit within which the server starts, and what the server then plans.
    @Test func takesWhatLathePlanSays() async throws {
        let tool = Process()
        tool.executableURL = URL(fileURLWithPath: ServerProcess.path).deletingLastPathComponent()
            .appendingPathComponent("lathe")
        tool.arguments = ["plan", "--serve", "--json", "--sessions", "3", "--model", try ServerProcess.novelist()]
        let pipe = Pipe()
        tool.standardOutput = pipe
        try tool.run()
        let plan = try JSON.parse(Array(pipe.fileHandleForReading.readDataToEndOfFile()), source: "plan")
        let total = try plan.object(at: "plan").int("total_bytes", in: "plan")
        let (server, port) = try await start("--sessions", "3", "--memory-budget", "\(total)")
        defer { withExtendedLifetime(server) {} }
        let report = try json(try await ask(port, Wire.get("/v1/memory")))
        #expect(try report.int("planned_bytes", in: "memory") == total)
        #expect(try report.object("sessions", in: "memory").int("total", in: "sessions") == 3)
    }

    @Test func metricsTellWhatWasDone() async throws {
        let (server, port) = try await start()
        defer { withExtendedLifetime(server) {} }
        _ = try await ask(port, Wire.post("/generate", #"{"prompt":[1,2,3],"max_new_tokens":7,"ignore_eos":true}"#))
        let text = try await ask(port, Wire.get("/metrics")).body
        for line in [
            "lathe_prompt_tokens_total 3", "lathe_generation_tokens_total 7",
            "lathe_time_to_first_token_seconds_count 1", "lathe_inter_token_latency_seconds_count 6",
            #"lathe_request_success_total{finished_reason="length"} 1"#, "lathe_num_requests_running 0",
            #"lathe_http_requests_total{ending="sent",route="/generate",status="200"} 1"#,
        ] {
            #expect(text.contains(line + "\n"), "\(line)")
        }
        #expect(!text.contains("lathe_memory_resident_bytes 0\n"))
        let line = try await server.line(with: "\"route\":\"/generate\"")
        #expect(line.contains("\"prompt_tokens\":3,") && line.contains("\"new_tokens\":7,"), "\(line)")
    }
}
