import Foundation
import Testing

@testable import LatheServe

#if canImport(Glibc)
    import Glibc
#endif

/// Changes the limits of a running process.
private let limiter = "/usr/bin/prlimit"

@Suite(.timeLimit(.minutes(2))) struct ProcessTests {
    @Test func printsItsSettings() async throws {
        let server = try ServerProcess(["--print-config", "server.port=9000"], environment: ["LATHE_QUEUE": "7"])
        #expect(try await server.end() == 0)
        #expect(server.output.contains("server.port: 9000") && server.output.contains("# override"))
        #expect(server.output.contains("engine.queue: 7") && server.output.contains("# environment, LATHE_QUEUE"))
        #expect(server.errors.isEmpty)
    }

    @Test func refusesInOneSentence() async throws {
        let server = try ServerProcess(["--prot", "1"])
        #expect(try await server.end() == 64)
        #expect(server.errors == "lathe-serve: There is no flag --prot; did you mean port?; see --help.\n")
        #expect(server.output.isEmpty)
        let unset = try ServerProcess([])
        #expect(try await unset.end() == 64)
        #expect(unset.errors.contains("LATHE_MODEL"))
        let folder = try ServerProcess(["--model", ServerProcess.checkpoint])
        #expect(try await folder.end() == 64)
        #expect(folder.errors.contains("lathe quantize"))
        let absent = try ServerProcess(["--model", "none.lathe"])
        #expect(try await absent.end() == 1)
        #expect(absent.errors.contains("none.lathe") && absent.errors.contains("No such file"))
        let small = try ServerProcess(["--model", try ServerProcess.novelist(), "--memory-budget", "40MB"])
        #expect(try await small.end() == 2)
        #expect(small.errors.hasPrefix("lathe-serve: The plan takes "))
    }

    @Test(arguments: [SIGTERM, SIGINT])
    func endsBySignal(signal: Int32) async throws {
        let server = try ServerProcess(["--model", try ServerProcess.novelist(), "--port", "0"])
        let wire = try await Wire(port: try await server.port())
        try await wire.send(Wire.get("/health/live"))
        #expect(try await wire.receiveReply().status == 200)
        _ = try await server.line(with: "\"ready\"")
        kill(server.process.processIdentifier, signal)
        #expect(try await server.end() == 0)
        #expect(server.errors.contains("\"draining\"") && server.errors.contains("\"ended\""))
        for line in server.errors.split(separator: "\n") {
            #expect(throws: Never.self) { try JSONSerialization.jsonObject(with: Data(line.utf8)) }
        }
    }

    @Test func aSecondSignalEndsItAtOnce() async throws {
        // A client that takes nothing of its replies keeps the server for a while.
        let server = try ServerProcess([
            "--model", try ServerProcess.novelist(), "--port", "0", "--write-timeout", "600",
        ])
        let wire = try await Wire(port: try await server.port(), receiveBuffer: 4096)
        _ = try await server.line(with: "\"ready\"")
        let requests = Array(String(repeating: Wire.get("/openapi.json"), count: 1000).utf8)
        _ = try await wire.sendWithoutPatience(requests)
        kill(server.process.processIdentifier, SIGTERM)
        _ = try await server.line(with: "\"draining\"")
        kill(server.process.processIdentifier, SIGTERM)
        #expect(try await server.end() == 143)
        withExtendedLifetime(wire) {}
    }

    @Test func anOpenHostIsWarnedOfTwice() async throws {
        let server = try ServerProcess(["--model", try ServerProcess.novelist(), "--port", "0", "--host", "0.0.0.0"])
        _ = try await server.line(with: "\"ready\"")
        _ = try await server.port()
        while server.errors.ranges(of: "WARNING: lathe-serve listens on 0.0.0.0 without any key").count < 2 {
            try await Task.sleep(for: .milliseconds(10))
        }
        kill(server.process.processIdentifier, SIGTERM)
        #expect(try await server.end() == 0)
    }

    /// The limit is lowered on the running process, so that it has no files left for connections.
    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: limiter), "no prlimit here"))
    func runsOutOfDescriptorsAndRecovers() async throws {
        let server = try ServerProcess(["--model", try ServerProcess.novelist(), "--port", "0"])
        let port = try await server.port()
        _ = try await server.line(with: "\"ready\"")
        let first = try await Wire(port: port)
        try await first.send(Wire.get("/health/live"))
        #expect(try await first.receiveReply().status == 200)
        let id = server.process.processIdentifier
        /// In hundredths of a second, of all its threads: in proc_pid_stat(5) the fields 14 and 15, of which the name in
        /// parentheses is the second.
        func processorTime() throws -> Int {
            let text = try String(contentsOfFile: "/proc/\(id)/stat", encoding: .utf8)
            let fields = try #require(text.split(separator: ")").last).split(separator: " ")
            return try #require(Int(fields[11])) + #require(Int(fields[12]))
        }
        func descriptors() throws -> Set<Int> {
            Set(try FileManager.default.contentsOfDirectory(atPath: "/proc/\(id)/fd").compactMap { Int($0) })
        }
        // Two numbers below the limit are free.
        let used = try descriptors()
        let limit = (0...).first { number in (0..<number).count { !used.contains($0) } == 2 }!
        let lowering = try Process.run(
            URL(fileURLWithPath: limiter), arguments: ["--pid", "\(id)", "--nofile=\(limit):"])
        while lowering.isRunning { try await Task.sleep(for: .milliseconds(5)) }
        try #require(lowering.terminationStatus == 0)

        var wires: [Wire] = []
        for _ in 0..<8 {
            let wire = try await Wire(port: port)
            try await wire.send(Wire.get("/health/live"))
            wires.append(wire)
        }
        while try descriptors().count(where: { $0 < limit }) < limit { try await Task.sleep(for: .milliseconds(5)) }
        // The kernel has taken all of them; six wait for a descriptor. Those that have one are answered.
        #expect(try await wires[0].receiveReply().status == 200)
        try await first.send(Wire.get("/health/live"))
        #expect(try await first.receiveReply().status == 200)
        // It says so once, and does not ask again and again: that would take all of this time.
        _ = try await server.line(with: "raise the limit of open files")
        let before = try processorTime()
        try await Task.sleep(for: .seconds(3))
        #expect(try processorTime() - before < 50)
        #expect(server.errors.ranges(of: "raise the limit of open files").count == 1)
        // As the answered ones leave, the others are accepted and answered.
        for wire in wires {
            if wire !== wires[0] { #expect(try await wire.receiveReply().status == 200) }
            wire.close()
        }
        try await first.send(Wire.get("/health/live"))
        #expect(try await first.receiveReply().status == 200)
        kill(id, SIGTERM)
        #expect(try await server.end() == 0)
    }
}
