import Foundation
import LatheCompiler
import Testing

#if canImport(Glibc)
    import Glibc
#endif

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

    /// The bundled model's checkpoint.
    static let checkpoint = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("models/novelist").path

    /// The bundled model, converted once for this run of the tests.
    static func novelist() throws -> String { try converted.get() }
    private static let converted = Result<String, any Error> {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent(
            "lathe-novelist-\(UUID().uuidString).lathe")
        _ = try Compiler(recipe: Recipe(weights: .int8)).compile(checkpoint: checkpoint, output: path.path)
        atexit { try? FileManager.default.removeItem(atPath: (try? ServerProcess.novelist()) ?? "") }
        return path.path
    }

    let process = Process()
    private let folder: URL

    /// - Parameter preparation: commands of a shell that then becomes the server.
    init(_ arguments: [String], environment: [String: String] = [:], preparation: String? = nil) throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("lathe-serve-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        process.executableURL = URL(fileURLWithPath: preparation == nil ? Self.path : "/bin/sh")
        process.arguments =
            preparation.map { ["-c", "\($0); exec \"$0\" \"$@\"", Self.path] + arguments } ?? arguments
        let inherited = ProcessInfo.processInfo.environment
        var variables = inherited.filter { !$0.key.hasPrefix("LATHE_") }
        variables["SWIFT_BACKTRACE"] = "enable=no"
        // A sanitizer's runtime, for the server alone (scripts/sanitize.sh).
        variables["LD_PRELOAD"] = inherited["LATHE_TEST_PRELOAD"]
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
