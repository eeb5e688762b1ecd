import Foundation
import LatheFormat
import Testing

/// `evaluate`, `sweep` and `fit`, on a model of random weights with novelist's tokenizer.
@Suite(.serialized) struct CompressionTests {
    private static let text = """
        It was a dark and stormy night; the rain fell in torrents, except at occasional intervals, when it was checked by a \
        violent gust of wind which swept up the streets, rattling along the house-tops, and fiercely agitating the scanty \
        flame of the lamps that struggled against the darkness.\n
        """

    /// A checkpoint `model`, a text `text` and room for more.
    private func prepared() async throws -> Folder {
        let folder = try Folder()
        try folder.write(Self.text, to: "text")
        try folder.write(
            #"{"model_type":"gpt2","activation_function":"gelu_new","vocab_size":8192,"n_positions":32,"n_embd":32,"#
                + #""n_layer":2,"n_head":2,"layer_norm_epsilon":1e-5,"bos_token_id":0,"eos_token_id":0,"#
                + #""tie_word_embeddings":true}"#,
            to: "config.json")
        let outcome = try await CommandLineTool.run(
            "synthesize", folder.path("config.json"), "-o", folder.path("model"), "--tokenizer", Fixtures.novelist)
        try #require(outcome.status == 0, "\(outcome.errors)")
        return folder
    }

    @Test func evaluate() async throws {
        let folder = try await prepared()
        let json = try await CommandLineTool.run(
            "evaluate", "--model", folder.path("model"), "--text", folder.path("text"), "--json"
        ).json()
        #expect(
            json.keys == [
                "perplexity", "standard_error", "tokens", "bits_per_byte", "window", "stride", "reference",
            ])
        #expect(try json.int("window", in: "output") == 32 && json.int("stride", in: "output") == 16)
        #expect(json["reference"] == .null)
        // Random weights: about as many candidates as there are tokens.
        #expect((4000...17000).contains(try json.number("perplexity")))
        let plain = try await CommandLineTool.run(
            "evaluate", "--model", folder.path("model"), "--text", folder.path("text"), "--window", "16")
        #expect(plain.status == 0 && plain.text.hasPrefix("perplexity "))
    }

    @Test(.enabled(if: BLASLibrary.isHere, "no OpenBLAS here")) func evaluateWithReference() async throws {
        let folder = try await prepared()
        let json = try await CommandLineTool.run(
            "evaluate", "--model", folder.path("model"), "--text", folder.path("text"), "--json", "--reference",
            folder.path("model")
        ).json()
        let reference = try json.object("reference", in: "output")
        #expect(
            Set(reference.keys).isSuperset(of: [
                "perplexity", "mean_kl", "top1_agreement", "rms_probability_difference", "worst",
            ]))
        #expect((1e-9...0.1).contains(try reference.number("mean_kl")))
        #expect(try reference.object("worst", in: "r").keys == ["token", "kl", "text"])
        try await CommandLineTool.run(
            "evaluate", "--model", folder.path("model"), "--text", folder.path("text"), "--reference", Fixtures.tiny
        ).expectFailure("tiny-gpt2", "101", "8192")
    }

    @Test func evaluateRefuses() async throws {
        let folder = try await prepared()
        func run(_ model: String, _ text: String, _ more: String...) async throws -> CommandLineTool.Outcome {
            try await CommandLineTool.start(["evaluate", "--model", model, "--text", text] + more).outcome()
        }
        let model = folder.path("model")
        try await run(model, "/nowhere/text").expectFailure("/nowhere/text")
        try await run(model, folder.write("", to: "empty")).expectFailure("empty")
        try await run(model, folder.write(" a", to: "short")).expectFailure("2 tokens")
        try await run(model, folder.write([0x61, 0xFF], to: "bad")).expectFailure("UTF-8")
        try await run(Fixtures.tiny, folder.path("text")).expectFailure("tiny-gpt2", "tokenizer")
        try await run(model, folder.path("text"), "--window", "33").expectFailure("33", "32")
        try await run(model, folder.path("text"), "--stride", "0").expectFailure("stride")
        #expect(try await run(model, folder.path("text"), "--window", "x").status == 64)
    }

    @Test(.enabled(if: BLASLibrary.isHere, "no OpenBLAS here")) func sweepGoesOnWhereItWas() async throws {
        let folder = try await prepared()
        try folder.write(
            """
            # Two entries, three recipes.
            recipes:
              - weights: int8
              - {weights: int8, sparse: [auto, off], prune: {sparsity: 0.5}}

            """, to: "recipes.yaml")
        func sweep() async throws -> CommandLineTool.Outcome {
            try await CommandLineTool.run(
                "sweep", folder.path("model"), "--text", folder.path("text"), "--recipes", folder.path("recipes.yaml"),
                "-o", folder.path("out"), "--threads", "1", "--runs", "1", "--json")
        }
        let first = try await sweep()
        let results = try first.json().array("results", in: "output").map { try $0.object(at: "result") }
        #expect(
            try results.map { try $0.string("name", in: "r") } == [
                "int8", "int8 magnitude 50 %", "int8 magnitude 50 % dense",
            ])
        for result in results {
            #expect(result.keys == ["name", "recipe", "file_bytes", "sparsity", "speed", "quality"])
            #expect(try result.object("speed", in: "r").int("peak_resident_bytes", in: "s") > 1 << 20)
        }
        #expect(results[1]["quality"] == results[2]["quality"] && results[0]["quality"] != results[1]["quality"])
        #expect(try results[1].int("file_bytes", in: "r") < results[2].int("file_bytes", in: "r"))
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path("out")).sorted()
        #expect(names == ["pareto.svg", "quality", "results", "table.csv", "table.json", "table.md"])

        let second = try await sweep()
        #expect(second.output == first.output && second.errors.contains("3 of 3"))
        // One result lost: measured again; another text: all of them.
        let stored = try FileManager.default.contentsOfDirectory(atPath: folder.path("out/results"))
        try FileManager.default.removeItem(atPath: folder.path("out/results/\(stored[0])"))
        #expect(try await sweep().errors.contains("2 of 3"))
        try folder.write(Self.text + "And so on.\n", to: "text")
        let other = try await sweep()
        #expect(other.status == 0 && !other.errors.contains("of 3"))
    }

    @Test(.enabled(if: BLASLibrary.isHere, "no OpenBLAS here")) func sweepSaysWhatFailed() async throws {
        let folder = try await prepared()
        func sweep(_ recipes: String) async throws -> CommandLineTool.Outcome {
            try folder.write(recipes, to: "recipes")
            return try await CommandLineTool.run(
                "sweep", folder.path("model"), "--text", folder.path("text"), "--recipes", folder.path("recipes"), "-o",
                folder.path("out"), "--threads", "1", "--runs", "1")
        }
        try await sweep("- weights: [int8").expectFailure("recipes", "YAML")
        try await sweep("- weights: int9").expectFailure("int9")
        try await sweep("- method: gptq").expectFailure("--calibration")
        let outcome = try await sweep("- weights: int8\n- prune: {sparsity: 0.5, exclude: [nothing]}\n")
        #expect(outcome.status == 1 && outcome.errors.contains("1 of 2") && outcome.errors.contains("nothing"))
        #expect(outcome.text.contains("| int8 |") && outcome.text.contains("failed: "))
    }

    @Test(.enabled(if: BLASLibrary.isHere, "no OpenBLAS here")) func fit() async throws {
        let folder = try await prepared()
        func fit(_ budget: String, _ increase: String) async throws -> CommandLineTool.Outcome {
            try await CommandLineTool.run(
                "fit", folder.path("model"), "--text", folder.path("text"), "--memory-budget", budget,
                "--max-perplexity-increase", increase, "-o", folder.path("out.lathe"), "--threads", "1", "--json",
                "--recipes",
                try folder.write(#"[{"weights":["f32","int8"]},{"prune":{"sparsity":0.9}}]"#, to: "recipes.json"))
        }
        let fits = try await fit("500MB", "5%")
        let json = try fits.json()
        let chosen = try json.string("chosen", in: "output")
        let verdicts = try json.array("candidates", in: "output").map { try $0.object(at: "verdict") }
        #expect(verdicts.count == 3)
        #expect(try verdicts.count { try $0.string("verdict", in: "v") == "chosen" } == 1)
        for verdict in verdicts {
            #expect(try !verdict.string("reason", in: "v").isEmpty)
            guard try verdict.string("name", in: "v") == chosen else { continue }
            #expect(try verdict.int("peak_resident_bytes", in: "v") <= 500_000_000)
            #expect(try verdict.int("file_bytes", in: "v") == folder.bytes("out.lathe").count)
        }
        #expect(try await CommandLineTool.run("inspect", folder.path("out.lathe")).status == 0)

        // Nothing fits: 2, one sentence, and nothing is left behind.
        try FileManager.default.removeItem(atPath: folder.path("out.lathe"))
        for (budget, increase) in [("1MB", "5%"), ("10kB", "50%")] {
            let outcome = try await fit(budget, increase)
            #expect(outcome.status == 2, "\(outcome.errors)")
            #expect(outcome.errors.split(separator: "\n").count == 1)
            #expect(outcome.text.contains("\"too_large\"") && outcome.text.contains("\"chosen\":null"))
        }
        #expect(try folder.names() == ["config.json", "model", "recipes.json", "text"])
        #expect(try await fit("much", "1%").status == 64)
        #expect(try await fit("1MB", "a bit").status == 64)
    }
}
