import Foundation
import LatheFormat
import Testing

/// `lathe prune`: its output, its contract, and that nothing is left of a run that fails.
@Suite(.serialized) struct PruneTests {
    @Test func contract() async throws {
        let folder = try Folder()
        let json = try await CommandLineTool.run(
            "prune", Fixtures.tiny, "-o", folder.path("out"), "--sparsity", "0.5", "--exclude", "h.1", "--json"
        ).json()
        #expect(
            json.keys == [
                "output", "sparsity", "criterion", "scope", "pattern", "seconds", "peak_resident_bytes",
                "planned_bytes", "tensors", "excluded",
            ])
        #expect(json["output"] == .string(folder.path("out")) && json["sparsity"] == 0.5)
        #expect(json["criterion"] == "magnitude" && json["scope"] == "layer" && json["pattern"] == "unstructured")
        let tensors = try json.array("tensors", in: "output")
        #expect(tensors.count == 4)
        let first = try tensors[0].object(at: "tensor")
        #expect(first.keys == ["name", "shape", "sparsity", "zeros", "count", "zeros_before", "balance_loss"])
        #expect(first["name"] == "h.0.attn.c_attn.weight" && first["shape"] == [96, 32])
        #expect(first["zeros"] == 1536 && first["count"] == 3072 && first["zeros_before"] == 0)
        let table = try await CommandLineTool.run(
            "prune", Fixtures.tiny, "-o", folder.path("again"), "--pattern", "2:4", "--balance-pairs")
        #expect(table.status == 0 && table.errors.isEmpty)
        #expect(table.text.contains("h.1.mlp.c_proj.weight") && table.text.contains("50.00 %"))
    }

    @Test func aPrunedCheckpointIsACheckpoint() async throws {
        let folder = try Folder()
        let pruned = try await CommandLineTool.run(
            "prune", Fixtures.novelist, "-o", folder.path("out"), "--sparsity", "0.3", "--scope", "global")
        try #require(pruned.status == 0, "\(pruned.errors)")
        for model in [folder.path("out"), folder.path("model.lathe")] {
            if model.hasSuffix(".lathe") {
                #expect(
                    try await CommandLineTool.run("quantize", folder.path("out"), "-o", model).status == 0)
            }
            let json = try await CommandLineTool.run(
                "generate", "--model", model, "-n", "8", "--json", "It was a dark night"
            ).json()
            #expect(try json.ints("ids").count == 8)
        }
        // The file knows how its zeros came about.
        let recipe = try await CommandLineTool.run("inspect", folder.path("model.lathe"), "--json").json()
            .object("recipe", in: "output")
        let pruning = try recipe.object("pruning", in: "recipe")
        #expect(pruning["sparsity"] == 0.3 && pruning["scope"] == "global" && pruning["criterion"] == "magnitude")
        // Pruned again, to more: what is zero stays zero.
        let again = try await CommandLineTool.run(
            "prune", folder.path("out"), "-o", folder.path("more"), "--sparsity", "0.6", "--json"
        ).json()
        // A matrix that the threshold of all left with more zeros keeps them.
        #expect(try again.number("sparsity") >= 0.6)
    }

    @Test(.enabled(if: hasOpenBLAS, "no OpenBLAS here"))
    func wanda() async throws {
        let folder = try Folder()
        // Small, but with a tokenizer: the bundled model would take a busy machine too long.
        try folder.write(
            """
            {"model_type": "gpt2", "vocab_size": 8192, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2,
             "bos_token_id": 0, "eos_token_id": 0}
            """, to: "config.json")
        let synthesized = try await CommandLineTool.run(
            "synthesize", folder.path("config.json"), "-o", folder.path("small"), "--tokenizer", Fixtures.novelist)
        try #require(synthesized.status == 0, "\(synthesized.errors)")
        let arguments = [
            "prune", folder.path("small"), "--sparsity", "0.5", "--criterion", "wanda", "--calibration",
            "\(Fixtures.package)/Tests/Golden/novelist/heldout.txt", "--calibration-tokens", "512", "--json", "-o",
        ]
        let json = try await CommandLineTool.start(arguments + [folder.path("out")]).outcome().json()
        #expect(json["criterion"] == "wanda" && json["scope"] == "row" && json["sparsity"] == 0.5)
        #expect(
            try await CommandLineTool.start(arguments + [folder.path("two"), "--threads", "1"]).outcome().status == 0)
        #expect(try folder.bytes("two/model.safetensors") == folder.bytes("out/model.safetensors"))
    }

    @Test(arguments: [
        [], ["--sparsity", "half"], ["--sparsity", "0.5", "--scope", "column"],
        ["--sparsity", "0.5", "--criterion", "luck"], ["--sparsity", "0.5", "--criterion", "wanda"],
        ["--sparsity", "0.5", "--calibration", "/etc/hostname"],
    ])
    func usage(arguments: [String]) async throws {
        let folder = try Folder()
        let outcome = try await CommandLineTool.start(
            ["prune", Fixtures.tiny, "-o", folder.path("out")] + arguments
        ).outcome()
        #expect(outcome.status == 64 && outcome.output.isEmpty && outcome.errors.hasPrefix("Error: "))
        #expect(try folder.names().isEmpty)
    }

    @Test(arguments: [
        (["--sparsity", "1"], ["sparsity", "1.0", "below 1"]), (["--sparsity", "-0.5"], ["-0.5"]),
        (["--sparsity", "nan"], ["nan"]), (["--pattern", "2:3"], ["2:3", "N:M"]),
        (["--pattern", "2:4", "--sparsity", "0.6"], ["0.6", "2:4"]),
        (["--pattern", "dense"], ["dense"]), (["--sparsity", "0.5", "--exclude", "c_atn"], ["c_atn", "c_attn"]),
        (
            ["--sparsity", "0.5", "--scope", "global", "--criterion", "wanda", "--calibration", "/etc/hostname"],
            ["global", "row"]
        ),
    ])
    func whatCannotBeDoneIsSaid(arguments: [String], words: [String]) async throws {
        let folder = try Folder()
        let outcome = try await CommandLineTool.start(
            ["prune", Fixtures.tiny, "-o", folder.path("out")] + arguments
        ).outcome()
        outcome.expectFailure()
        for word in words { #expect(outcome.errors.contains(word), "\(outcome.errors)") }
        #expect(try folder.names().isEmpty)
    }

    @Test func aTextShorterThanOneWindowIsRefusedWithBothCounts() async throws {
        let folder = try Folder()
        let text = try folder.write("It was a dark night.", to: "text")
        let outcome = try await CommandLineTool.run(
            "prune", Fixtures.novelist, "-o", folder.path("out"), "--sparsity", "0.5", "--criterion", "wanda",
            "--calibration", text)
        outcome.expectFailure(text, "512", "longer text")
        #expect(try folder.names() == ["text"])
    }

    @Test func nothingOfAnyonesIsReplaced() async throws {
        let folder = try Folder()
        let checkpoint = try folder.copy(Fixtures.tiny, as: "checkpoint")
        try folder.write("mine", to: "file")
        for (output, word) in [
            (checkpoint, "input"), ("\(checkpoint)/out", "lies in"), (folder.path("file"), "something else"),
            (folder.path, "not empty"), ("/nowhere/out", "/nowhere"), ("", "empty path"),
        ] {
            try await CommandLineTool.run("prune", checkpoint, "-o", output, "--sparsity", "0.5").expectFailure(word)
        }
        #expect(try folder.names() == ["checkpoint", "file"])
        #expect(try folder.bytes("file") == Array("mine".utf8))
    }

    /// A disk that is full: the system refuses to let files grow beyond a limit, in units of 512 bytes.
    @Test(arguments: [0, 8, 150])
    func aFullDiskLeavesNothing(blocks: Int) async throws {
        let folder = try Folder()
        let outcome = try await CommandLineTool.run(
            "prune", Fixtures.tiny, "-o", folder.path("out"), "--sparsity", "0.5", preparation: "ulimit -f \(blocks)")
        #expect(outcome.status == 1 && !outcome.isSignal)
        #expect(try folder.names().isEmpty)
    }

    /// Killed at moments spread over its run: no folder, or the whole one.
    @Test func aKilledRunLeavesNothing() async throws {
        let folder = try Folder()
        let arguments = ["prune", Fixtures.novelist, "--sparsity", "0.5", "-o"]
        let start = ContinuousClock.now
        #expect(try await CommandLineTool.start(arguments + [folder.path("whole")]).outcome().status == 0)
        let duration = ContinuousClock.now - start
        let whole = try folder.bytes("whole/model.safetensors")
        var killed = 0
        for attempt in 0..<8 {
            let run = try CommandLineTool.start(arguments + [folder.path("out")])
            try await Task.sleep(for: duration * (Double(attempt) + 0.5) / 8)
            kill(run.process.processIdentifier, SIGKILL)
            if try await run.outcome().isSignal { killed += 1 }
            for name in try folder.names() where name != "whole" {
                // Only between the making of the temporary folder and its renaming is there anything to be found.
                if name == "out" { #expect(try folder.bytes("out/model.safetensors") == whole) }
                #expect(name == "out" || name.hasPrefix(".lathe-"))
                try FileManager.default.removeItem(atPath: folder.path(name))
            }
        }
        #expect(killed > 0)
    }
}

/// As the command looks for it.
private let hasOpenBLAS = dlopen("libopenblas.so.0", RTLD_LAZY) != nil
