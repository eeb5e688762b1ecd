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

    /// A checkpoint in the scratch folder.
    static func prepare() throws {
        let folder = scratch.path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let path = "\(folder)/seed.json"
        try Data(configuration.utf8).write(to: URL(fileURLWithPath: path))
        try SyntheticCheckpoint(named: path, isHalfPrecision: true).write(to: folder)
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
        for (name, format, text) in [("int8", WeightFormats.int8, tokenizer), ("f32", .float32, nil)] {
            let tokenizerPath = scratch.appendingPathComponent("tokenizer.json")
            try? FileManager.default.removeItem(at: tokenizerPath)
            if let text { try Data(text.utf8).write(to: tokenizerPath) }
            let output = scratch.appendingPathComponent("\(name).lathe").path
            _ = try Compiler(weights: format).compile(checkpoint: scratch.path, output: output)
            try put("lathe", name, [UInt8](try Data(contentsOf: URL(fileURLWithPath: output))))
        }
    }
}
