import Foundation
import LatheFormat
import Testing

/// Exit codes, and what stands on which stream.
@Suite(.serialized) struct ExitTests {
    @Test(arguments: [
        ["frobnicate"], ["generate", "--nope"], ["generate", "-n", "many", "x"], ["generate", "--ids", "1", "text"],
        ["generate", "--threads", "1,2", "x"], ["generate", "--kv", "int3", "x"],
        ["generate", "--numa", "on", "x"],
        ["generate", "--weights", "int3", "x"],
        ["quantize", "folder", "-o", "x", "--group-size", "32"],
        ["quantize", "folder", "-o", "x", "--sparse", "maybe"],
        ["quantize", "folder", "-o", "x", "--weights", "int4", "--group-size", "48"],
        ["quantize", "folder", "-o", "x", "--weights", "f32", "--sparse", "on"],
        ["quantize", "folder", "-o", "x", "--override", "wte"],
        ["quantize", "folder", "-o", "x", "--override", "wte=int5"],
        ["quantize", "folder", "-o", "x", "--head-activations", "12"],
        ["quantize", "folder", "-o", "x", "--smooth", "2", "--calibration", "text"],
        ["quantize", "folder", "-o", "x", "--method", "gptq"], ["quantize", "folder", "-o", "x", "--bias-correction"],
        ["quantize", "folder", "-o", "x", "--calibration", "text"],
        ["quantize"], ["quantize", "folder"], ["quantize", "folder", "-o", "x", "--weights", "int3"],
        ["score", "--text", "a", "--ids", "1"], ["score"], ["tokenize", "--file", "x", "text"], ["inspect"],
        ["batch"], ["batch", "in"], ["batch", "in", "-o", "out", "--sessions", "0"],
        ["generate", "--seed", "-1", "x"], ["synthesize", "distilgpt2"],
    ])
    func usage(arguments: [String]) async throws {
        let outcome = try await CommandLineTool.start(arguments).outcome()
        #expect(outcome.status == 64 && !outcome.isSignal)
        #expect(outcome.output.isEmpty)
        #expect(outcome.errors.hasPrefix("Error: "))
    }

    @Test(arguments: [["--help"], ["--version"], ["help", "quantize"], ["generate", "--help"]])
    func help(arguments: [String]) async throws {
        let outcome = try await CommandLineTool.start(arguments).outcome()
        #expect(outcome.status == 0)
        #expect(!outcome.output.isEmpty && outcome.errors.isEmpty)
    }

    @Test func missingFilesAreNamed() async throws {
        for command in [
            ["generate", "x", "--model"], ["score", "--ids", "1", "--model"], ["tokenize", "x", "--model"],
            ["inspect"], ["bench", "--model"],
        ] {
            try await CommandLineTool.start(command + ["/nowhere/model.lathe"]).outcome()
                .expectFailure("/nowhere/model.lathe")
            try await CommandLineTool.start(command + [""]).outcome().expectFailure("empty path")
        }
        try await CommandLineTool.run("quantize", "/nowhere/folder", "-o", "/nowhere/x.lathe")
            .expectFailure("/nowhere/folder")
        try await CommandLineTool.run("synthesize", "nothing-of-this-name", "-o", "/nowhere")
            .expectFailure("nothing-of-this-name", "distilgpt2")
        let model = try await Fixtures.novelistFile.path
        try await CommandLineTool.run("tokenize", "--model", model, "--file", "/nowhere/text")
            .expectFailure("/nowhere/text")
        try await CommandLineTool.run("tokenize", "--model", model, "--file", "/dev/zero").expectFailure("/dev/zero")
        try await CommandLineTool.run("quantize", Fixtures.tiny, "-o", "/nowhere/x.lathe").expectFailure("/nowhere")
        try await CommandLineTool.run("quantize", Fixtures.tiny, "-o", "/tmp").expectFailure("/tmp", "folder")
    }

    #if os(Linux)
        @Test func outputThatCannotBeWrittenIsSaid() async throws {
            let model = try await Fixtures.tinyFile.path
            let outcome = try await CommandLineTool.run("inspect", model, preparation: "exec >/dev/full")
            outcome.expectFailure("Standard output")
        }
    #endif

    @Test func interruptionExits130() async throws {
        let model = try await Fixtures.tinyFile.path
        let run = try CommandLineTool.start([
            "bench", "--model", model, "--prompt-tokens", "8", "--new-tokens", "40", "--runs", "1000000", "--threads",
            "1",
        ])
        try await run.waitUntilMapped("model.lathe")
        run.process.interrupt()
        let outcome = try await run.outcome()
        #expect(outcome.status == 130 && !outcome.isSignal)
    }

    /// An invented one, and those of the other processor family.
    @Test func absentInstructionSetsAreRefusedByName() async throws {
        #if arch(x86_64)
            let absent = ["sse9", "neon", "neoni8mm"]
        #else
            let absent = ["sse9", "avx2", "amx"]
        #endif
        let model = try await Fixtures.tinyFile.path
        for arguments in [["generate", "--ids", "1"], ["score", "--ids", "1"], ["bench"]] {
            for name in absent {
                try await CommandLineTool.start(
                    arguments + ["--model", model], environment: ["LATHE_ISA": name]
                ).outcome().expectFailure(name, "scalar")
            }
        }
    }

    /// The levels that this machine has, from the message that names them.
    private func levels() async throws -> [String] {
        let outcome = try await CommandLineTool.run(
            "score", "--ids", "1", "--model", try await Fixtures.tinyFile.path, environment: ["LATHE_ISA": "?"])
        let list = try #require(outcome.errors.split(separator: " it has ").last)
        return list.split(separator: ",").map { String($0.filter(\.isLetterOrDigit)) }
    }

    @Test func everyInstructionSetGivesTheSameBytes() async throws {
        let levels = try await levels()
        #expect(levels.contains("scalar"))
        let folder = try Folder()
        let ids = (0..<40).map { String($0 * 37 % 101) }.joined(separator: ",")
        var scores: [[UInt8]] = []
        var files: [[UInt8]] = []
        for level in levels {
            let environment = ["LATHE_ISA": level]
            let converted = try await CommandLineTool.run(
                "quantize", Fixtures.tiny, "-o", folder.path(level), environment: environment)
            #expect(converted.status == 0)
            files.append(try folder.bytes(level))
            for options in [[], ["--weights", "f32"], ["--weights", "f32", "--kv", "f16"], ["--kv", "f32"]] {
                let outcome = try await CommandLineTool.start(
                    ["score", "--model", Fixtures.tiny, "--ids", ids, "--json"] + options, environment: environment
                ).outcome()
                #expect(outcome.status == 0)
                scores.append(outcome.output)
            }
        }
        #expect(Set(files).count == 1)
        for option in 0..<4 {
            #expect(Set(stride(from: option, to: scores.count, by: 4).map { scores[$0] }).count == 1)
        }
        // The options do differ.
        #expect(Set(scores).count == 4)
    }

    @Test func noResultDependsOnThreadsOrChunks() async throws {
        let model = try await Fixtures.novelistFile.path
        let ids = (0..<100).map { String($0 * 79 % 8192) }.joined(separator: ",")
        var outputs: Set<[UInt8]> = []
        for options in [
            [], ["--threads", "1"], ["--threads", "2"], ["--threads", "3"], ["--prefill-chunk", "1"],
            ["--prefill-chunk", "7"], ["--prefill-chunk", "64"], ["--prefill-chunk", "9223372036854775807"],
            ["--no-verify"], ["--kv", "f16"],
        ] {
            let outcome = try await CommandLineTool.start(
                ["score", "--model", model, "--ids", ids, "--json"] + options
            ).outcome()
            #expect(outcome.status == 0, "\(options): \(outcome.errors)")
            outputs.insert(outcome.output)
        }
        #expect(outputs.count == 1)
    }
}

extension Character {
    fileprivate var isLetterOrDigit: Bool { isASCII && (isLetter || isNumber) }
}

extension CommandLineTool.Running {
    /// Until the process has mapped a file of that name, and a little longer.
    func waitUntilMapped(_ name: String) async throws {
        for _ in 0..<2000 where process.isRunning {
            let maps = (try? String(contentsOfFile: "/proc/\(process.processIdentifier)/maps", encoding: .utf8)) ?? ""
            if maps.contains(name) || !FileManager.default.fileExists(atPath: "/proc/self/maps") { break }
            try await Task.sleep(for: .milliseconds(5))
        }
        try await Task.sleep(for: .milliseconds(300))
    }
}
