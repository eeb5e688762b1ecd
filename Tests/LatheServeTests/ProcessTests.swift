import Foundation
import Testing

@testable import LatheServe

#if canImport(Glibc)
    import Glibc
#endif

/// Changes the limits of a running process.
private let limiter = "/usr/bin/prlimit"

/// The built `lathe-serve`, as a process of its own.
final class ServerProcess {
    static let path: String = {
        var folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        // On macOS the test bundle is a folder, three levels deep.
        for _ in 0..<4 {
            let candidate = folder.appendingPathComponent("lathe-serve").path
            if FileManager.default.isExecutableFile(atPath: candidate) { return candidate }
            folder.deleteLastPathComponent()
        }
        return "lathe-serve, which is not beside \(CommandLine.arguments[0])"
    }()

    let process = Process()
    private let folder: URL

    init(_ arguments: [String], environment: [String: String] = [:]) throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("lathe-serve-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        process.executableURL = URL(fileURLWithPath: Self.path)
        process.arguments = arguments
        var variables = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("LATHE_") }
        variables["SWIFT_BACKTRACE"] = "enable=no"
        for (name, value) in environment { variables[name] = value }
        process.environment = variables
        for name in ["out", "err"] { try Data().write(to: folder.appendingPathComponent(name)) }
        process.standardOutput = try FileHandle(forWritingTo: folder.appendingPathComponent("out"))
        process.standardError = try FileHandle(forWritingTo: folder.appendingPathComponent("err"))
        try process.run()
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        try? FileManager.default.removeItem(at: folder)
    }

    private func text(_ name: String) -> String {
        (try? String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)) ?? ""
    }
    var output: String { text("out") }
    var errors: String { text("err") }

    /// Waits for a line of the log.
    func line(with mark: String) async throws -> String {
        while true {
            if let line = errors.split(separator: "\n").first(where: { $0.contains(mark) }) { return String(line) }
            guard process.isRunning else { throw Wire.Failure(description: "it ended: \(errors)") }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    func port() async throws -> Int {
        let line = try await line(with: "\"listening\"")
        let digits = line[line.firstRange(of: "\"port\":")!.upperBound...].prefix { $0.isNumber }
        return Int(digits)!
    }

    func end() async throws -> Int32 {
        while process.isRunning { try await Task.sleep(for: .milliseconds(10)) }
        return process.terminationReason == .uncaughtSignal ? -process.terminationStatus : process.terminationStatus
    }
}

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
    }

    @Test(arguments: [SIGTERM, SIGINT])
    func endsBySignal(signal: Int32) async throws {
        let server = try ServerProcess(["--model", "none", "--port", "0"])
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
        let server = try ServerProcess(["--model", "none", "--port", "0", "--write-timeout", "600"])
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
        let server = try ServerProcess(["--model", "none", "--port", "0", "--host", "0.0.0.0"])
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
        let server = try ServerProcess(["--model", "none", "--port", "0"])
        let port = try await server.port()
        let first = try await Wire(port: port)
        try await first.send(Wire.get("/health/live"))
        #expect(try await first.receiveReply().status == 200)
        let id = server.process.processIdentifier
        let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(id)/fd").compactMap { Int($0) }
        let lowering = try Process.run(
            URL(fileURLWithPath: limiter), arguments: ["--pid", "\(id)", "--nofile=\(open.max()! + 3):"])
        while lowering.isRunning { try await Task.sleep(for: .milliseconds(5)) }
        try #require(lowering.terminationStatus == 0)

        var wires: [Wire] = []
        for _ in 0..<20 {
            let wire = try await Wire(port: port)
            try await wire.send(Wire.get("/health/live"))
            wires.append(wire)
        }
        // The kernel has taken all of them; some wait for a descriptor. Those that have one are answered.
        #expect(try await wires[0].receiveReply().status == 200)
        try await first.send(Wire.get("/health/live"))
        #expect(try await first.receiveReply().status == 200)
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
