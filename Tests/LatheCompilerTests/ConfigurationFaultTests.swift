import LatheCompiler
import LatheFormat
import Testing

/// Configurations that lie, or that ask for what this version does not do.
@Suite struct ConfigurationFaultTests {
    struct Change: Sendable, CustomTestStringConvertible {
        var field: String
        var value: JSON?
        var code: LatheError.Code
        /// What the message must hold beside the file and the field.
        var word: String
        var testDescription: String { "\(field): \(value?.serialized() ?? "absent")" }

        init(_ field: String, _ value: JSON?, _ code: LatheError.Code, _ word: String = "") {
            (self.field, self.value, self.code, self.word) = (field, value, code, word)
        }
    }

    static let sizes = ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head"]

    static let changes: [Change] =
        sizes.flatMap { field in
            [
                // Without n_positions the older n_ctx is read, which is right in this checkpoint; see below.
                Change(field, field == "n_positions" ? 0 : nil, field == "n_positions" ? .corrupt : .missing),
                Change(field, 0, .corrupt), Change(field, -1, .corrupt), Change(field, .number("1e3"), .corrupt),
                Change(field, .number("2.0"), .corrupt), Change(field, "32", .corrupt), Change(field, [32], .corrupt),
                Change(field, 1_000_000_000, .corrupt, "1000000000"),
                Change(field, .number("4611686018427387904"), .corrupt),
                Change(field, .number("99999999999999999999"), .corrupt),
            ]
        } + [
            Change("n_head", 3, .corrupt, "n_embd"),
            Change("n_inner", 0, .corrupt), Change("n_inner", -5, .corrupt),
            Change("n_inner", .number("9223372036854775807"), .corrupt),
            Change("layer_norm_epsilon", -1e-5, .corrupt), Change("layer_norm_epsilon", "small", .corrupt),
            Change("layer_norm_epsilon", .number("1e300"), .corrupt),
            Change("layer_norm_epsilon", .number("1e999"), .corrupt),
            Change("activation_function", "swish7", .unsupported, "gelu_new"),
            Change("activation_function", 7, .corrupt),
            Change("model_type", "llama", .unsupported, "gpt2"), Change("model_type", nil, .missing),
            Change("model_type", nil, .missing),
            Change("quantization_config", ["bits": 4], .unsupported, "float"),
            Change("add_cross_attention", true, .unsupported),
            Change("pruned_heads", ["0": [1]], .unsupported),
            Change("scale_attn_weights", "yes", .corrupt),
            Change("tie_word_embeddings", 1, .corrupt),
        ]

    @Test(arguments: changes)
    func fieldsAreNamed(change: Change) throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.change([change.field], to: change.value)
        let error = try checkpoint.failure()
        #expect(error.code == change.code, "\(error.message)")
        #expect(error.names("config.json", change.field, change.word), "\(error.message)")
    }

    /// Sizes that are possible, but not of these weights: the message names the tensor that does not fit.
    @Test(arguments: [
        ("vocab_size", 102, "wte.weight"), ("n_positions", 65, "wpe.weight"), ("n_embd", 64, "wte.weight"),
        ("n_layer", 3, "h.2.ln_1.weight"), ("n_layer", 1, "h.1."), ("n_inner", 100, "c_fc.weight"),
        ("n_layer", 10_000, "h.2.ln_1.weight"), ("vocab_size", 1 << 24, "wte.weight"),
    ])
    func weightsThatDoNotFitAreNamed(field: String, value: Int, tensor: String) throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.change([field], to: .number(value))
        let error = try checkpoint.failure()
        #expect(error.names(checkpoint.path, tensor), "\(error.message)")
    }

    @Test(arguments: ["bos_token_id", "eos_token_id"])
    func specialTokensOutsideTheVocabularyAreRefused(field: String) throws {
        for value: JSON in [101, 4_294_967_296, [101, 100]] {
            let checkpoint = try BentCheckpoint()
            try checkpoint.change([field], to: value)
            let error = try checkpoint.failure()
            #expect(error.names("config.json", "outside the vocabulary of 101"), "\(error.message)")
        }
        for value: JSON in [-1, "100", 1.5, .number("1e2"), ["x"], [nil]] {
            let checkpoint = try BentCheckpoint()
            try checkpoint.change([field], to: value)
            #expect(try checkpoint.failure().names("config.json", field))
            // generation_config.json comes first, and is named where it is the one that is wrong.
            try checkpoint.change([field], to: 1)
            try checkpoint.write(JSON.object(JSONObject([(field, value)])).serialized(), to: "generation_config.json")
            #expect(try checkpoint.failure().names("generation_config.json", field))
        }
    }

    @Test func optionalFieldsMayBeMissing() throws {
        let checkpoint = try BentCheckpoint()
        for field in [
            "n_inner", "layer_norm_epsilon", "activation_function", "bos_token_id", "eos_token_id",
            "scale_attn_weights", "tie_word_embeddings", "n_positions",
        ] {
            try checkpoint.change([field], to: nil)
        }
        let (_, model) = try checkpoint.convert()
        #expect(model.configuration.contextLength == 64)
        #expect(model.configuration.beginningOfTextID == nil && model.configuration.endOfTextIDs.isEmpty)
    }

    @Test(arguments: ["", "{", "[]", "null", "{\"n_head\": 1, \"n_head\": 2}", "\u{0}", "{} {}"])
    func textThatIsNoConfigurationIsRefused(text: String) throws {
        for name in ["config.json", "generation_config.json"] {
            let checkpoint = try BentCheckpoint()
            try checkpoint.write(text, to: name)
            #expect(try checkpoint.failure().names(name))
        }
    }

    @Test(arguments: ["config.json", "model.safetensors"])
    func otherFormatsAreNamed(name: String) throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.write("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", to: name)
        #expect(try checkpoint.failure().names(name, "Git LFS"))
        try checkpoint.write("<html><body>404</body></html>", to: name)
        #expect(try checkpoint.failure().names(name, "HTML"))
    }
}
