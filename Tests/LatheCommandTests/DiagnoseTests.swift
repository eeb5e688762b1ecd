import LatheFormat
import Testing

/// `lathe diagnose` on a small model of random weights with novelist's tokenizer.
@Suite(.serialized) struct DiagnoseTests {
    private func checkpoint(in folder: Folder) async throws -> String {
        let source = try folder.write(
            """
            {"model_type": "gpt2", "activation_function": "gelu_new", "vocab_size": 8192, "n_positions": 48,
             "n_embd": 36, "n_layer": 2, "n_head": 2, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": true}
            """, to: "source.json")
        let path = folder.path("checkpoint")
        let outcome = try await CommandLineTool.run("synthesize", source, "-o", path)
        try #require(outcome.status == 0, "\(outcome.errors)")
        _ = try folder.copy("\(Fixtures.novelist)/tokenizer.json", as: "checkpoint/tokenizer.json")
        return path
    }

    private static let text = "\(Fixtures.package)/Tests/Golden/novelist/heldout.txt"

    @Test(.enabled(if: BLASLibrary.isHere, "no OpenBLAS here")) func jsonContract() async throws {
        let folder = try Folder()
        let path = try await checkpoint(in: folder)
        let json = try await CommandLineTool.run(
            "diagnose", "--checkpoint", path, "--text", Self.text, "--tokens", "100", "--threads", "1", "--json"
        ).json()
        #expect(
            json.keys == [
                "checkpoint", "tokens", "windows", "seconds", "peak_resident_bytes", "layers", "keep_higher",
            ])
        #expect(try json.int("tokens", in: "output") == 96)
        #expect(try json.int("windows", in: "output") == 2)
        let layers = try json.array("layers", in: "output").map { try $0.object(at: "layer") }
        #expect(layers.count == 9)
        #expect(try layers[0].string("name", in: "layer") == "h.0.attn.c_attn.weight")
        #expect(try layers[0].ints("shape") == [108, 36])
        #expect(layers.map { $0["head"] } == [JSON](repeating: false, count: 8) + [true])

        // What is said of the weights is what converting them says.
        let converted = try await CommandLineTool.run("quantize", path, "-o", folder.path("out.lathe"), "--json").json()
        var quantized: [String: Double] = [:]
        for tensor in try converted.array("tensors", in: "output") {
            let tensor = try tensor.object(at: "tensor")
            quantized[try tensor.string("name", in: "tensor")] = try tensor.number("relative_error")
        }
        for layer in layers {
            #expect(layer.keys == ["name", "shape", "head", "activation_error", "formats"])
            let activations = try layer.number("activation_error")
            #expect((0.0005...0.05).contains(activations))
            let formats = try layer.array("formats", in: "layer").map { try $0.object(at: "format") }
            #expect(
                try formats.map { try $0.string("format", in: "f") } == ["int8", "int4:g32", "int4:g64", "int4:g128"])
            for format in formats {
                #expect(
                    format.keys == ["format", "size_bytes", "weight_error", "weight_output_error", "output_error"])
                let (alone, both) = (try format.number("weight_output_error"), try format.number("output_error"))
                // Errors of weights and of activations are nearly uncorrelated: their squares add up.
                let expected = (alone * alone + activations * activations).squareRoot()
                #expect((0.5...1.5).contains(both / expected), "\(both), expected about \(expected)")
            }
            #expect(try formats[0].number("weight_error") < formats[1].number("weight_error"))
            #expect(try formats[1].number("weight_output_error") < formats[3].number("weight_output_error"))
            let error = try #require(quantized[try layer.string("name", in: "layer")])
            #expect(abs(try formats[0].number("weight_error") - error) <= 1e-9)
        }
        let higher = try json.array("keep_higher", in: "output").map { try $0.object(at: "format") }
        #expect(higher.count == 4 && higher.allSatisfy { $0.keys == ["format", "layers"] })
    }

    @Test(.enabled(if: BLASLibrary.isHere, "no OpenBLAS here")) func tables() async throws {
        let folder = try Folder()
        let outcome = try await CommandLineTool.run(
            "diagnose", "--checkpoint", try await checkpoint(in: folder), "--text", Self.text, "--tokens", "48")
        #expect(outcome.status == 0, "\(outcome.errors)")
        let marked = outcome.text.split(separator: "\n").filter { $0.hasSuffix("◄ worst") }
        #expect(marked.count == 4)
        #expect(outcome.text.contains("--override '"))
        #expect(outcome.text.contains("48 tokens in 1 windows of 48"))
    }

    @Test(.enabled(if: BLASLibrary.isHere, "no OpenBLAS here")) func refusals() async throws {
        let folder = try Folder()
        let path = try await checkpoint(in: folder)
        let short = try folder.write("Too short.", to: "short.txt")
        try await CommandLineTool.run("diagnose", "--checkpoint", path, "--text", short)
            .expectFailure("short.txt", "48", "longer text")
        try await CommandLineTool.run("diagnose", "--checkpoint", path, "--text", folder.path("none.txt"))
            .expectFailure("none.txt")
        try await CommandLineTool.run("diagnose", "--checkpoint", path, "--text", short, "--tokens", "0")
            .expectFailure("--tokens")
        try await CommandLineTool.run("diagnose", "--checkpoint", Fixtures.tiny, "--text", Self.text)
            .expectFailure("tokenizer")
    }
}
