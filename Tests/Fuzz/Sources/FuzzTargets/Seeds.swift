import Foundation

@testable import LatheCompiler
@testable import LatheFormat

/// Sound inputs to start from, made by the project itself: small, so that mutations meet what matters.
enum Seeds {
    /// Where the configuration target keeps a checkpoint.
    static let scratch = URL(fileURLWithPath: NSTemporaryDirectory()).appendingPathComponent("lathe-fuzz-\(getpid())")

    private static let configuration = """
        {"model_type": "gpt2", "activation_function": "gelu_new", "vocab_size": 259, "n_positions": 16, "n_embd": 16,
         "n_layer": 1, "n_head": 2, "n_inner": 16, "layer_norm_epsilon": 1e-5, "bos_token_id": 258,
         "eos_token_id": [258], "tie_word_embeddings": true, "scale_attn_weights": true,
         "scale_attn_by_inverse_layer_idx": false, "quantization_config": null, "pruned_heads": {},
         "torch_dtype": "float32"}
        """

    private static var tokenizer: String {
        let tokens = ByteAlphabet.spellings.map { String(decoding: $0, as: UTF8.self) } + ["ab", "abc", "<end>"]
        let vocabulary = JSON.object(JSONObject(tokens.dropLast().enumerated().map { ($1, JSON.number($0)) }))
        let end: JSON = [
            "id": 258, "content": "<end>", "single_word": false, "lstrip": true, "rstrip": false, "normalized": false,
            "special": true,
        ]
        let level: JSON = ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true]
        let description: JSON = [
            "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": [end], "normalizer": nil,
            "pre_tokenizer": level, "post_processor": nil, "decoder": level,
            "model": [
                "type": "BPE", "dropout": nil, "unk_token": nil, "fuse_unk": false, "byte_fallback": false,
                "vocab": vocabulary, "merges": ["a b", ["ab", "c"]],
            ],
        ]
        return description.serialized()
    }

    /// Checkpoints in the scratch folder: one without tokenizer, and beside it in `small` one of five tokens.
    static func prepare() throws {
        let small = configuration.replacingOccurrences(of: "259", with: "5").replacingOccurrences(of: "258", with: "4")
        for (folder, text) in [(scratch.path, configuration), (scratch.path + "/small", small)] {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let path = "\(folder)/seed.json"
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
            try SyntheticCheckpoint(named: path, isHalfPrecision: true).write(to: folder)
        }
    }

    /// A folder of seeds for each target.
    static func write(to folder: String) throws {
        func put(_ target: String, _ name: String, _ bytes: [UInt8]) throws {
            try FileManager.default.createDirectory(atPath: "\(folder)/\(target)", withIntermediateDirectories: true)
            try Data(bytes).write(to: URL(fileURLWithPath: "\(folder)/\(target)/\(name)"))
        }
        try put("json", "config", Array(configuration.utf8))
        try put("json", "mixed", Array(#"[{"a\u00e9\ud83d\ude00\n":[-0.5e-7,true,null,""]},1,"x\/\\"]"#.utf8))
        try put("config", "config", Array(configuration.utf8))
        try put("tokenizer", "bytes", Array(tokenizer.utf8))
        let safetensors = scratch.appendingPathComponent("small.safetensors").path
        let writer = try SafetensorsWriter(
            .path(safetensors), metadata: [("format", "pt")],
            tensors: [
                .init(name: "a", dtype: .f32, shape: [2, 3]), .init(name: "b", dtype: .bf16, shape: []),
                .init(name: "c", dtype: .bool, shape: [5]), .init(name: "d", dtype: .i64, shape: [0, 4]),
            ])
        for count in [24, 2, 5] { try writer.write(ByteView(copying: [UInt8](repeating: 1, count: count))) }
        try writer.finish()
        try put("safetensors", "small", [UInt8](try Data(contentsOf: URL(fileURLWithPath: safetensors))))
        try Data(tokenizer.utf8).write(to: scratch.appendingPathComponent("tokenizer.json"))
        let small = scratch.path + "/small"
        for (name, folder, format) in [
            ("tokenizer", scratch.path, WeightFormats.int8), ("int8", small, .int8), ("int4", small, .int4),
            ("f32", small, .float32),
        ] {
            let output = "\(scratch.path)/\(name).lathe"
            _ = try Compiler(weights: format).compile(checkpoint: folder, output: output)
            try put("lathe", name, [UInt8](try Data(contentsOf: URL(fileURLWithPath: output))))
            let model = try ModelFile.open(path: output, verify: true)
            let graph: JSON = ["configuration": model.configuration.json, "graph": model.graph.json]
            try put("graph", name, graph.serializedBytes())
        }
    }
}
