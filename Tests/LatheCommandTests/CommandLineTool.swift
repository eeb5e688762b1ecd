import Foundation
import LatheFormat
import Testing

/// The built `lathe`, run as a user runs it.
struct CommandLineTool {
    /// Beside the test bundle, where the package manager puts every product.
    static let path: String = {
        var bundle = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        // On macOS the bundle is a folder, three levels deep.
        for _ in 0..<4 {
            let candidate = bundle.appendingPathComponent("lathe").path
            if FileManager.default.isExecutableFile(atPath: candidate) { return candidate }
            bundle.deleteLastPathComponent()
        }
        return "lathe, which is not beside \(CommandLine.arguments[0])"
    }()

    struct Outcome {
        let status: Int32
        let isSignal: Bool
        let output: [UInt8]
        let errors: String

        var text: String { String(decoding: output, as: UTF8.self) }

        /// Standard output, which must be exactly one JSON object on one line.
        func json(_ location: SourceLocation = #_sourceLocation) throws -> JSONObject {
            try #require(status == 0 && !isSignal, "\(errors)", sourceLocation: location)
            try #require(text.hasSuffix("}\n") && text.split(separator: "\n").count == 1, sourceLocation: location)
            return try JSON.parse(output, source: "stdout").object(at: "stdout")
        }

        /// Checks that the command failed as the contract has it: exit 1, nothing on standard output, one sentence on
        /// standard error that holds `words`.
        func expectFailure(_ words: String..., at location: SourceLocation = #_sourceLocation) {
            #expect(status == 1 && !isSignal, "\(errors)", sourceLocation: location)
            #expect(output.isEmpty, "\(text)", sourceLocation: location)
            let lines = errors.split(separator: "\n", omittingEmptySubsequences: false)
            #expect(lines.count == 2 && lines.last == "", "not one line: \(errors)", sourceLocation: location)
            #expect(errors.hasPrefix("lathe: "), "\(errors)", sourceLocation: location)
            // A sentence, or a command to type at its end.
            #expect(errors.hasSuffix(".\n") || errors.hasSuffix("\"\n"), "\(errors)", sourceLocation: location)
            for word in words { #expect(errors.contains(word), "\(errors)", sourceLocation: location) }
        }
    }

    /// A command that has been started.
    final class Running {
        let process = Process()
        private let folder: Folder

        fileprivate init(_ executable: String, _ arguments: [String], input: [UInt8], environment: [String: String])
            throws
        {
            folder = try Folder()
            process.executableURL = URL(fileURLWithPath: executable)
            process.arguments = arguments
            var variables = ProcessInfo.processInfo.environment
            variables["LATHE_ISA"] = nil
            // A crash must end at once, with a signal.
            variables["SWIFT_BACKTRACE"] = "enable=no"
            for (name, value) in environment { variables[name] = value }
            process.environment = variables
            // Files rather than pipes: nothing can fill up.
            process.standardInput = try FileHandle(
                forReadingFrom: URL(fileURLWithPath: try folder.write(input, to: "in")))
            process.standardOutput = try FileHandle(
                forWritingTo: URL(fileURLWithPath: try folder.write([], to: "out")))
            process.standardError = try FileHandle(
                forWritingTo: URL(fileURLWithPath: try folder.write([], to: "err")))
            try process.run()
        }

        /// Waits for the end; after `limit` seconds the process is killed and the test fails.
        func outcome(limit: Double = 60) async throws -> Outcome {
            let end = Date(timeIntervalSinceNow: limit)
            while process.isRunning {
                if Date() > end {
                    kill(process.processIdentifier, SIGKILL)
                    Issue.record("lathe \(process.arguments ?? []) ran longer than \(limit) s")
                }
                try await Task.sleep(for: .milliseconds(5))
            }
            return Outcome(
                status: process.terminationStatus, isSignal: process.terminationReason == .uncaughtSignal,
                output: try folder.bytes("out"), errors: String(decoding: try folder.bytes("err"), as: UTF8.self))
        }

        var errorsSoFar: String { (try? folder.bytes("err")).map { String(decoding: $0, as: UTF8.self) } ?? "" }
    }

    static func start(
        _ arguments: [String], input: [UInt8] = [], environment: [String: String] = [:]
    ) throws -> Running {
        try Running(path, arguments, input: input, environment: environment)
    }

    static func run(_ arguments: [String]) async throws -> Outcome { try await start(arguments).outcome() }

    static func run(
        _ arguments: String..., input: [UInt8] = [], environment: [String: String] = [:]
    ) async throws -> Outcome {
        try await start(arguments, input: input, environment: environment).outcome()
    }

    /// Runs `lathe` behind a shell that first executes `preparation`, as `ulimit`.
    static func run(_ arguments: String..., preparation: String) async throws -> Outcome {
        try await run(arguments, preparation: preparation)
    }

    static func run(_ arguments: [String], preparation: String) async throws -> Outcome {
        try await Running(
            "/bin/sh", ["-c", "\(preparation); exec \"$0\" \"$@\"", path] + arguments, input: [], environment: [:]
        ).outcome()
    }
}

/// A folder that is removed with the value.
final class Folder: Sendable {
    let path = NSTemporaryDirectory() + "/lathe-command-\(UInt64.random(in: .min ... .max))"

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func path(_ name: String) -> String { "\(path)/\(name)" }
    /// Hidden files too.
    func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }
    func bytes(_ name: String) throws -> [UInt8] { try Fixtures.bytes(path(name)) }

    @discardableResult
    func write(_ bytes: [UInt8], to name: String) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: path(name)))
        return path(name)
    }

    @discardableResult
    func write(_ text: String, to name: String) throws -> String { try write(Array(text.utf8), to: name) }

    /// A folder of this name with the files of another.
    func copy(_ source: String, as name: String) throws -> String {
        try FileManager.default.copyItem(atPath: source, toPath: path(name))
        return path(name)
    }
}

/// Checkpoints, and what they become.
enum Fixtures {
    static let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
    /// Without a tokenizer: 101 tokens, context 64, bos 99.
    static let tiny = "\(package)/Tests/Golden/tiny-gpt2"
    /// Sharded, bfloat16, without bos.
    static let odd = "\(package)/Tests/Golden/odd-gpt2"
    /// float16, context 50.
    static let gelu = "\(package)/Tests/Golden/gelu-gpt2"
    /// With a tokenizer of 8192 tokens; context 512.
    static let novelist = "\(package)/models/novelist"

    /// Converted once for all tests.
    static let tinyFile = Converted(tiny)
    static let novelistFile = Converted(novelist)

    actor Converted {
        private let checkpoint: String
        private var task: Task<(Folder, String), any Error>?
        init(_ checkpoint: String) { self.checkpoint = checkpoint }

        var path: String {
            get async throws {
                let checkpoint = checkpoint
                let task =
                    self.task
                    ?? Task {
                        let folder = try Folder()
                        let outcome = try await CommandLineTool.run(
                            "quantize", checkpoint, "-o", folder.path("model.lathe"))
                        try #require(outcome.status == 0, "\(outcome.errors)")
                        return (folder, folder.path("model.lathe"))
                    }
                self.task = task
                return try await task.value.1
            }
        }
    }

    static func bytes(_ path: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(fileURLWithPath: path))) }
}

extension JSONObject {
    var keys: [String] { members.map(\.key) }

    func ints(_ key: String) throws -> [Int] {
        try array(key, in: "output").map { try $0.int(at: key, minimum: .min) }
    }
    func number(_ key: String) throws -> Double { try double(key, in: "output") }
}

/// Whether this machine has the library that the float32 reference loads.
enum BLASLibrary {
    static let isHere: Bool = {
        guard let handle = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL) else { return false }
        dlclose(handle)
        return true
    }()
}
