import Foundation
import LatheFormat
import Testing

/// Conversions: the same bytes each time, and never a damaged destination.
@Suite(.serialized) struct ConversionTests {
    @Test func conversionsAreDeterministic() async throws {
        let folder = try Folder()
        for (checkpoint, name) in [(Fixtures.odd, "odd"), (Fixtures.novelist, "novelist")] {
            for (index, threads) in ["1", "1", "2", "3"].enumerated() {
                let outcome = try await CommandLineTool.run(
                    "quantize", checkpoint, "-o", folder.path("\(name)\(index)"), "--threads", threads)
                #expect(outcome.status == 0, "\(outcome.errors)")
            }
            let first = try folder.bytes("\(name)0")
            for index in 1...3 { #expect(try folder.bytes("\(name)\(index)") == first) }
        }
        // By another path, from another working folder: no path is in the file.
        let copy = try folder.copy(Fixtures.odd, as: "copy")
        #expect(try await CommandLineTool.run("quantize", copy, "-o", folder.path("again")).status == 0)
        #expect(try folder.bytes("again") == folder.bytes("odd0"))
    }

    @Test func aFolderRunsLikeTheFileMadeOfIt() async throws {
        let file = try await CommandLineTool.run(
            "score", "--model", try await Fixtures.tinyFile.path, "--ids", "1,2,3", "--json")
        let folder = try await CommandLineTool.run("score", "--model", Fixtures.tiny, "--ids", "1,2,3", "--json")
        #expect(try file.json() == folder.json())
        let exact = try await CommandLineTool.run(
            "score", "--model", Fixtures.tiny, "--weights", "f32", "--ids", "1,2,3", "--json")
        #expect(try exact.json() != folder.json())
    }

    @Test(arguments: ["model.safetensors", "config.json", "tokenizer.json", "link", "./model.safetensors"])
    func outputOverInputIsRefused(name: String) async throws {
        let folder = try Folder()
        let checkpoint = try folder.copy(Fixtures.tiny, as: "checkpoint")
        try folder.write("{}", to: "checkpoint/tokenizer.json")
        if name == "link" {
            try FileManager.default.createSymbolicLink(
                atPath: "\(checkpoint)/link", withDestinationPath: "model.safetensors")
        }
        let before = try Fixtures.bytes("\(checkpoint)/\(name)")
        try await CommandLineTool.run("quantize", checkpoint, "-o", "\(checkpoint)/\(name)")
            .expectFailure("output", "input")
        try FileManager.default.removeItem(atPath: "\(checkpoint)/tokenizer.json")
        if name != "tokenizer.json" {
            try await CommandLineTool.run(
                "score", "--model", checkpoint, "--ids", "1,2", "--logits", "\(checkpoint)/\(name)"
            ).expectFailure("output", "input")
            #expect(try Fixtures.bytes("\(checkpoint)/\(name)") == before)
        }
    }

    @Test func shardsAndIndexAreInputsToo() async throws {
        let folder = try Folder()
        let checkpoint = try folder.copy(Fixtures.odd, as: "checkpoint")
        for name in ["model-00002-of-00002.safetensors", "model.safetensors.index.json", "config.json"] {
            try await CommandLineTool.run("quantize", checkpoint, "-o", "\(checkpoint)/\(name)")
                .expectFailure("output", name)
        }
        try await CommandLineTool.run("synthesize", "\(checkpoint)/config.json", "-o", checkpoint)
            .expectFailure("output", "config.json")
    }

    /// A disk that is full: the system refuses to let files grow beyond a limit, in units of 512 bytes.
    @Test(arguments: [8, 64, 130])
    func aFullDiskLeavesTheOldFile(blocks: Int) async throws {
        let folder = try Folder()
        try folder.write("the old file", to: "out.lathe")
        let outcome = try await CommandLineTool.run(
            "quantize", Fixtures.tiny, "-o", folder.path("out.lathe"), preparation: "ulimit -f \(blocks)")
        outcome.expectFailure("Cannot write", folder.path("out.lathe"))
        #expect(try folder.names() == ["out.lathe"])
        #expect(try folder.bytes("out.lathe") == Array("the old file".utf8))
        let logits = try await CommandLineTool.run(
            "score", "--model", Fixtures.tiny, "--ids", (0..<64).map(String.init).joined(separator: ","), "--logits",
            folder.path("out.lathe"), preparation: "ulimit -f 8")
        // Loading converts into a file in memory, which the limit holds for as well.
        #expect(logits.status == 1)
        #expect(try folder.bytes("out.lathe") == Array("the old file".utf8))
    }

    /// FAULTS 18: killed at fifty moments, the old file is there and valid, and nothing else.
    @Test func aKilledConversionLeavesTheOldFile() async throws {
        let folder = try Folder()
        try FileManager.default.createDirectory(atPath: folder.path("out"), withIntermediateDirectories: true)
        let arguments = ["quantize", Fixtures.novelist, "-o", folder.path("out/model.lathe")]
        let start = ContinuousClock.now
        #expect(try await CommandLineTool.start(arguments).outcome().status == 0)
        let whole = ContinuousClock.now - start
        let old = try folder.bytes("out/model.lathe")

        var killed = 0
        for attempt in 0..<50 {
            let run = try CommandLineTool.start(arguments)
            try await Task.sleep(for: whole * (Double(attempt) + Double.random(in: 0...1)) / 50)
            kill(run.process.processIdentifier, SIGKILL)
            let outcome = try await run.outcome()
            if outcome.isSignal { killed += 1 }
            #expect(try folder.bytes("out/model.lathe") == old)
            for name in try FileManager.default.contentsOfDirectory(atPath: folder.path("out"))
            where name != "model.lathe" {
                // Between its link and the rename the file has a name of its own for a moment, and is complete.
                #expect(try folder.bytes("out/\(name)") == old)
                try FileManager.default.removeItem(atPath: folder.path("out/\(name)"))
            }
        }
        #expect(killed > 0)
        let score = try await CommandLineTool.run(
            "score", "--model", folder.path("out/model.lathe"), "--ids", "1,2,3", "--json")
        #expect(try score.json().count == 2)
    }

    /// The same of pruning: a folder appears whole or not at all.
    @Test func aKilledPruningLeavesNothingOrAll() async throws {
        let folder = try Folder()
        func arguments(_ name: String) -> [String] {
            ["prune", Fixtures.novelist, "-o", folder.path("out/\(name)"), "--sparsity", "0.5"]
        }
        try FileManager.default.createDirectory(atPath: folder.path("out"), withIntermediateDirectories: true)
        let start = ContinuousClock.now
        #expect(try await CommandLineTool.start(arguments("whole")).outcome().status == 0)
        let duration = ContinuousClock.now - start
        let whole = try folder.bytes("out/whole/model.safetensors")
        for attempt in 0..<15 {
            let run = try CommandLineTool.start(arguments("cut"))
            try await Task.sleep(for: duration * (Double(attempt) + Double.random(in: 0...1)) / 15)
            kill(run.process.processIdentifier, SIGKILL)
            _ = try await run.outcome()
            for name in try FileManager.default.contentsOfDirectory(atPath: folder.path("out")) where name != "whole" {
                // A folder under a name of its own is one whose files were just getting theirs.
                if name == "cut" { #expect(try folder.bytes("out/cut/model.safetensors") == whole) }
                try FileManager.default.removeItem(atPath: folder.path("out/\(name)"))
            }
        }
    }

    @Test func aBudgetIsKeptOrRefused() async throws {
        let folder = try Folder()
        for command in [["quantize"], ["prune", "--sparsity", "0.5"]] {
            let refused = try await CommandLineTool.start(
                command + [Fixtures.novelist, "-o", folder.path("out"), "--memory-budget", "20MB"]
            ).outcome()
            #expect(refused.status == 2 && !refused.isSignal && refused.output.isEmpty)
            #expect(refused.errors.contains("budget of 20000000") && refused.errors.contains("What would help"))
            #expect(try folder.names() == [])
        }
        let json = try await CommandLineTool.run(
            "quantize", Fixtures.novelist, "-o", folder.path("out"), "--memory-budget", "100MB", "--json"
        ).json()
        let planned = try json.int("planned_bytes", in: "output")
        #expect(planned <= 100_000_000)
        #if os(Linux)
            #expect(try json.int("peak_resident_bytes", in: "output") <= planned)
        #endif
    }

    @Test func synthesizedCheckpointsAreTheSameForTheSameSeed() async throws {
        let folder = try Folder()
        let config = try folder.write(try Fixtures.bytes("\(Fixtures.tiny)/config.json"), to: "config.json")
        for (name, seed) in [("a", "1"), ("b", "1"), ("c", "2")] {
            let outcome = try await CommandLineTool.run(
                "synthesize", config, "-o", folder.path(name), "--seed", seed, "--dtype", "f16")
            #expect(outcome.status == 0, "\(outcome.errors)")
        }
        let first = try folder.bytes("a/model.safetensors")
        #expect(try folder.bytes("b/model.safetensors") == first)
        #expect(try folder.bytes("c/model.safetensors") != first)
        let score = try await CommandLineTool.run("score", "--model", folder.path("a"), "--ids", "1,2", "--json")
        #expect(try score.json().count == 2)
    }
}
