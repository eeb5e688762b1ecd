import Foundation
import LatheFormat
import Testing

/// The keys of every command's `--json` and their types.
@Suite(.serialized) struct JSONContractTests {
    @Test func tokenize() async throws {
        let model = try await Fixtures.novelistFile.path
        let ids = try await CommandLineTool.run("tokenize", "--model", model, "--json", "It was a dark night.\n").json()
        #expect(ids.keys == ["ids"])
        #expect(try ids.ints("ids").allSatisfy { (0..<8192).contains($0) })
        let list = try ids.ints("ids").map(String.init).joined(separator: ",")
        let text = try await CommandLineTool.run("tokenize", "--model", model, "--decode", list, "--json").json()
        #expect(text.keys == ["text"])
        #expect(try text.string("text", in: "output") == "It was a dark night.\n")
        // The same from the folder that the file was made of.
        let folder = try await CommandLineTool.run(
            "tokenize", "--model", Fixtures.novelist, "--json", "It was a dark night.\n"
        ).json()
        #expect(folder == ids)
        let plain = try await CommandLineTool.run("tokenize", "--model", model, "It was a dark night.\n")
        #expect(plain.text == list + "\n")
    }

    @Test func score() async throws {
        let outcome = try await CommandLineTool.run(
            "score", "--model", try await Fixtures.tinyFile.path, "--ids", "1, 2,3,100", "--json")
        let json = try outcome.json()
        #expect(json.keys == ["tokens", "logprobs"])
        #expect(try json.ints("tokens") == [1, 2, 3, 100])
        let logprobs = try json.array("logprobs", in: "output")
        #expect(logprobs.count == 4 && logprobs[0] == .null)
        for (index, value) in logprobs.enumerated().dropFirst() {
            guard case .number(let digits) = value, let float = Float(digits) else {
                Issue.record("\(value) at \(index)")
                continue
            }
            #expect(float < 0)
            // The shortest digits that read back as the same Float32.
            #expect(float.description == digits)
        }
    }

    @Test func logits() async throws {
        let folder = try Folder()
        let model = try await Fixtures.tinyFile.path
        let outcome = try await CommandLineTool.run(
            "score", "--model", model, "--ids", "1,2,3,100", "--json", "--logits", folder.path("out.safetensors"))
        let logprobs = try outcome.json().array("logprobs", in: "output")
        let file = try SafetensorsFile.open(path: folder.path("out.safetensors"))
        #expect(file.tensors.map(\.name) == ["logits"])
        #expect(file.tensors[0].dtype == .f32)
        #expect(file.tensors[0].shape == [4, 101])
        let bytes = try file.bytes(of: "logits")
        for (position, id) in [2, 3, 100].enumerated() {
            let row = (0..<101).map { Double(bytes.load(position * 101 + $0, as: Float.self)) }
            let expected = row[id] - log(row.reduce(0) { $0 + exp($1) })
            #expect(abs(try logprobs[position + 1].double(at: "logprob") - expected) < 1e-4)
        }
        // Without --logits the log-probabilities are the same.
        let without = try await CommandLineTool.run("score", "--model", model, "--ids", "1,2,3,100", "--json")
        #expect(try without.json().array("logprobs", in: "output") == logprobs)
    }

    @Test func generate() async throws {
        let model = try await Fixtures.novelistFile.path
        let json = try await CommandLineTool.run(
            "generate", "--model", model, "He said", "-n", "5", "--json", "--seed", "18446744073709551615"
        ).json()
        #expect(
            json.keys == [
                "prompt_ids", "ids", "text", "finish_reason", "seed", "time_to_first_token_seconds",
                "prefill_tokens_per_second", "decode_tokens_per_second", "peak_resident_bytes",
            ])
        #expect(try json.ints("ids").count == 5)
        #expect(try !json.string("text", in: "output").isEmpty)
        #expect(try json.string("finish_reason", in: "output") == "length")
        #expect(json["seed"] == .number("18446744073709551615"))
        #expect(try json.number("time_to_first_token_seconds") > 0)
        #expect(try json.number("prefill_tokens_per_second") > 0)
        #expect(try json.number("decode_tokens_per_second") > 0)
        #if os(Linux)
            #expect(try json.int("peak_resident_bytes", in: "output") > 1 << 20)
        #endif
        // Plain output is the text alone; everything else is on standard error.
        let plain = try await CommandLineTool.run("generate", "--model", model, "He said", "-n", "5")
        #expect(plain.status == 0)
        #expect(plain.text == (try json.string("text", in: "output")) + "\n")
        #expect(plain.errors.contains(" · NUMA: "))
        let off = try await CommandLineTool.run("generate", "--model", model, "He said", "-n", "5", "--numa", "off")
        #expect(off.text == plain.text && off.errors.contains(" · NUMA: off"))
    }

    @Test func quantize() async throws {
        let folder = try Folder()
        let json = try await CommandLineTool.run(
            "quantize", Fixtures.tiny, "-o", folder.path("tiny.lathe"), "--json"
        ).json()
        #expect(
            json.keys == [
                "output", "bytes_before", "bytes_after", "seconds", "peak_resident_bytes", "planned_bytes", "tensors",
            ])
        #expect(try json.string("output", in: "output") == folder.path("tiny.lathe"))
        #expect(try json.int("bytes_after", in: "output") == folder.bytes("tiny.lathe").count)
        #expect(
            try json.int("bytes_before", in: "output") == Fixtures.bytes("\(Fixtures.tiny)/model.safetensors").count)
        #expect(try json.number("seconds") > 0)
        let tensors = try json.array("tensors", in: "output").map { try $0.object(at: "tensor") }
        #expect(tensors.count == 28)
        for tensor in tensors {
            #expect(
                tensor.keys == [
                    "name", "shape", "format", "bytes_before", "bytes_after", "sparsity", "relative_error",
                ])
            let isMatrix = try tensor.string("format", in: "tensor").hasPrefix("int8")
            #expect((0..<1).contains(try tensor.number("sparsity")))
            #expect(try tensor.ints("shape").count == 2 || !isMatrix)
            let error = try tensor.number("relative_error")
            if isMatrix { #expect((0.0001...0.05).contains(error), "\(tensor)") } else { #expect(error == 0) }
        }
    }

    /// What the options ask for stands in the file and is printed by `inspect`.
    @Test func quantizeByRecipe() async throws {
        let folder = try Folder()
        let path = folder.path("odd.lathe")
        let outcome = try await CommandLineTool.run(
            "quantize", Fixtures.odd, "-o", path, "--weights", "int4", "--group-size", "32", "--sparse", "off",
            "--override", "mlp=int8:sparse", "--override", "h.0.mlp.c_fc=f32", "--head-activations", "8", "--json")
        let written = try outcome.json().array("tensors", in: "output").map { try $0.object(at: "tensor") }
        let json = try await CommandLineTool.run("inspect", path, "--json").json()
        let recipe = try json.object("recipe", in: "output")
        #expect(
            recipe.keys == [
                "weights", "group_size", "sparse", "overrides", "head_activations", "method", "source_sha256",
                "tensors",
            ])
        #expect(try recipe.int("group_size", in: "recipe") == 32)
        #expect(try recipe.array("overrides", in: "recipe").count == 2)
        var formats: [String: String] = [:]
        for item in try recipe.array("tensors", in: "recipe") {
            let tensor = try item.object(at: "tensor")
            #expect(tensor.keys == ["name", "format", "sparsity", "relative_error"])
            let name = try tensor.string("name", in: "tensor")
            formats[name] = try tensor.string("format", in: "tensor")
            let same = try #require(try written.first { try $0.string("name", in: "tensor") == name })
            for key in tensor.keys { #expect(tensor[key] == same[key]) }
        }
        #expect(formats["h.0.attn.c_attn.weight"] == "int4:g32")
        #expect(formats["h.0.mlp.c_fc.weight"] == "f32")
        #expect(formats["h.0.mlp.c_proj.weight"] == "int8:sparse")
        let text = try await CommandLineTool.run("inspect", path).text
        for words in [
            "overrides: mlp=int8:sparse, h.0.mlp.c_fc=f32", "group_size: 32", "int4:g32", "relative error",
            "of weights",
        ] { #expect(text.contains(words), "\(text)") }
    }

    @Test func inspectFile() async throws {
        let path = try await Fixtures.tinyFile.path
        let json = try await CommandLineTool.run("inspect", path, "--json").json()
        #expect(json.keys == ["kind", "configuration", "recipe", "tensors", "file_bytes", "graph"])
        #expect(try json.string("kind", in: "output") == "lathe")
        #expect(try json.object("graph", in: "output").array("parameters", in: "graph").count > 0)
        #expect(try json.object("configuration", in: "output").int("vocabulary_size", in: "c") == 101)
        let recipe = try json.object("recipe", in: "output")
        #expect(try recipe.string("weights", in: "recipe") == "int8")
        #expect(try recipe.string("source_sha256", in: "recipe").utf8.count == 64)
        #expect(try json.int("file_bytes", in: "output") == Fixtures.bytes(path).count)
        try checkTensors(json)
    }

    @Test func inspectSafetensors() async throws {
        let json = try await CommandLineTool.run("inspect", "\(Fixtures.tiny)/model.safetensors", "--json").json()
        #expect(try json.string("kind", in: "output") == "safetensors")
        #expect(json["configuration"] == .null)
        #expect(json["recipe"] == .null)
        try checkTensors(json)
    }

    @Test func inspectCheckpoint() async throws {
        let json = try await CommandLineTool.run("inspect", Fixtures.odd, "--json").json()
        #expect(try json.string("kind", in: "output") == "checkpoint")
        #expect(try json.object("configuration", in: "output").string("model_type", in: "c") == "gpt2")
        #expect(json["recipe"] == .null)
        let sizes = try [1, 2].map { try Fixtures.bytes("\(Fixtures.odd)/model-0000\($0)-of-00002.safetensors").count }
        #expect(try json.int("file_bytes", in: "output") == sizes.reduce(0, +))
        try checkTensors(json)
    }

    private func checkTensors(_ json: JSONObject) throws {
        let tensors = try json.array("tensors", in: "output").map { try $0.object(at: "tensor") }
        #expect(!tensors.isEmpty)
        for tensor in tensors {
            #expect(tensor.keys == ["name", "dtype", "shape", "bytes"])
            let elements = try tensor.ints("shape").reduce(1, *)
            #expect(try tensor.int("bytes", in: "tensor") >= elements)
        }
    }

    @Test func bench() async throws {
        let path = try await Fixtures.tinyFile.path
        let outcome = try await CommandLineTool.run(
            "bench", "--model", path, "--prompt-tokens", "8", "--new-tokens", "5", "--runs", "2", "--batch", "2",
            "--threads", "1,2", "--json")
        let json = try outcome.json()
        #expect(
            json.keys == [
                "model", "isa", "kernels", "numa", "load_seconds", "resident_weight_bytes", "peak_resident_bytes",
                "results",
            ])
        #expect(try json.string("model", in: "output") == path)
        #expect(try !json.object("kernels", in: "output").isEmpty)
        let numa = try json.object("numa", in: "output")
        #expect(numa.keys == ["nodes", "source", "placed_bytes"])
        // Nothing of this model is large enough to be worth placing.
        #expect(try numa.int("placed_bytes", in: "numa") == 0)
        #expect(try json.number("load_seconds") > 0)
        let results = try json.array("results", in: "output").map { try $0.object(at: "result") }
        #expect(try results.map { try $0.string("phase", in: "r") } == ["prefill", "decode", "prefill", "decode"])
        #expect(try results.map { try $0.int("threads", in: "r") } == [1, 1, 2, 2])
        for result in results {
            #expect(
                Set(result.keys).isSuperset(of: [
                    "phase", "threads", "batch", "tokens", "tokens_per_second", "bytes_per_token",
                    "probe_bytes_per_second", "ratio_to_probe", "operations_per_second",
                ]))
            let isPrefill = try result.string("phase", in: "r") == "prefill"
            #expect(try result.int("batch", in: "r") == 2)
            #expect(try result.int("tokens", in: "r") == (isPrefill ? 16 : 8))
            #expect((result["ratio_to_probe"] == .null) == isPrefill)
            let speed = try result.object("tokens_per_second", in: "r")
            #expect(speed.keys == ["median", "min", "max"])
            #expect(try speed.number("min") <= speed.number("median"))
            #expect(try speed.number("median") <= speed.number("max"))
        }
    }
}
