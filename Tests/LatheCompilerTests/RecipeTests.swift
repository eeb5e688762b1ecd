import LatheFormat
import Testing

@testable import LatheCompiler

/// What a recipe says, in words and in JSON, and what it means for a model.
@Suite struct RecipeTests {
    // MARK: Formats

    @Test(arguments: [
        ("int8", TensorFormat(.int8)), ("f32", TensorFormat(.float32)), ("int4", TensorFormat(.int4)),
        ("int4:g32", TensorFormat(.int4, groupSize: 32)), ("int8:dense", TensorFormat(.int8, sparse: .off)),
        ("int8:sparse", TensorFormat(.int8, sparse: .on)), ("int8:auto", TensorFormat(.int8, sparse: .auto)),
        ("int4:g128:sparse", TensorFormat(.int4, groupSize: 128, sparse: .on)),
        ("f32:dense", TensorFormat(.float32, sparse: .off)),
    ])
    func formatsAreReadAndWritten(text: String, format: TensorFormat) throws {
        #expect(try TensorFormat(parsing: text) == format)
        #expect(format.description == text)
    }

    @Test func orderInAFormatIsFree() throws {
        #expect(try TensorFormat(parsing: "int4:sparse:g64") == TensorFormat(.int4, groupSize: 64, sparse: .on))
    }

    @Test(arguments: [
        "", "int5", "INT8", "int8:", ":dense", "int8:g32", "f32:sparse", "f32:auto", "int4:g33", "int4:g32:g64",
        "int8:dense:sparse", "int4:32", "int8 ",
    ])
    func otherFormatsAreRefused(text: String) throws {
        let error = try #require(throws: LatheError.self) { try TensorFormat(parsing: text) }
        #expect(error.code == .invalidRequest && error.names(quoted(text)) && error.message.hasSuffix("."))
    }

    @Test func overridesAreReadAtTheLastEqualsSign() throws {
        let override = try Recipe.Override(parsing: "a=b=int4:g32")
        #expect(override == .init(pattern: "a=b", format: TensorFormat(.int4, groupSize: 32)))
        for text in ["int4", "=int4", "wte=", "wte=int5", ""] {
            #expect(throws: LatheError.self) { try Recipe.Override(parsing: text) }
        }
    }

    // MARK: JSON

    private static var full: Recipe {
        var recipe = Recipe(
            weights: .int4, groupSize: 32, sparse: .off,
            overrides: [.init(pattern: "h.?.mlp", format: TensorFormat(.int8, sparse: .on))])
        recipe.headActivationBits = 8
        recipe.method = .gptq
        recipe.smooth = 0.55
        recipe.correctsBias = true
        recipe.calibration = .init(sha256: String(repeating: "0a", count: 32), windows: 64, length: 512)
        return recipe
    }

    @Test(arguments: [Recipe(), Recipe(weights: .float32), RecipeTests.full])
    func jsonIsReadBack(recipe: Recipe) throws {
        #expect(try Recipe(json: recipe.json, source: "recipe") == recipe)
    }

    @Test func jsonIsCanonical() {
        #expect(
            Recipe(weights: .int4).json.serialized() == """
                {"weights":"int4","group_size":64,"sparse":"auto","overrides":[],"head_activations":16,"method":"rtn"}
                """)
        #expect(
            Self.full.json.serialized() == """
                {"weights":"int4","group_size":32,"sparse":"off","overrides":[{"pattern":"h.?.mlp","format":"int8:sparse"}],\
                "head_activations":8,"method":"gptq","smooth":0.55,"bias_correction":true,\
                "calibration":{"sha256":"\(String(repeating: "0a", count: 32))","windows":64,"length":512}}
                """)
    }

    @Test func whatIsAbsentHasItsDefault() throws {
        #expect(try Recipe(json: [:], source: "recipe") == Recipe())
    }

    @Test(arguments: [
        (#"{"weight":"int4"}"#, ["weight", "weights"]), (#"{"weights":"int3"}"#, ["weights", "int3", "int4"]),
        (#"{"group_size":16}"#, ["16", "32"]), (#"{"sparse":"maybe"}"#, ["sparse", "maybe", "auto"]),
        (#"{"head_activations":12}"#, ["12", "16"]), (#"{"method":"best"}"#, ["method", "best", "gptq"]),
        (#"{"smooth":1.5}"#, ["1.5"]), (#"{"smooth":0}"#, ["0"]),
        (#"{"overrides":[{"pattern":"a"}]}"#, ["format"]),
        (#"{"overrides":[{"pattern":"a","format":"int4:g1"}]}"#, ["int4:g1"]),
        ("[]", ["object"]),
    ])
    func otherJSONIsRefused(text: String, words: [String]) throws {
        let json = try JSON.parse(Array(text.utf8), source: "recipe")
        let error = try #require(throws: LatheError.self) { try Recipe(json: json, source: "recipe") }
        for word in words { #expect(error.message.contains(word), "\(error.message)") }
    }

    // MARK: What it means for a model

    private func formats(_ recipe: Recipe) throws -> [String: String] {
        let checkpoint = try BentCheckpoint()
        return try withExtendedLifetime(checkpoint) {
            let definition = try Architectures.define(try Checkpoint(path: checkpoint.path))
            return try RecipePlan(recipe, for: definition).formats.mapValues(\.description)
        }
    }

    private static let layers = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"].flatMap { name in
        (0..<2).map { "h.\($0).\(name).weight" }
    }

    @Test(arguments: [
        (Recipe(weights: .int8), "int8:auto", "int8:dense"),
        (Recipe(weights: .int8, sparse: .on), "int8:sparse", "int8:dense"),
        (Recipe(weights: .int4), "int4:g64:auto", "int8:dense"),
        (Recipe(weights: .int4, groupSize: 128, sparse: .off), "int4:g128:dense", "int8:dense"),
        (Recipe(weights: .float32), "f32", "f32"),
    ])
    func defaults(recipe: Recipe, layers: String, table: String) throws {
        let formats = try formats(recipe)
        #expect(Set(formats.keys) == Set(Self.layers + ["wte.weight"]))
        for name in Self.layers { #expect(formats[name] == layers) }
        #expect(formats["wte.weight"] == table)
    }

    @Test func theLastMatchDecides() throws {
        var recipe = Recipe(weights: .int4, groupSize: 32)
        for text in [
            "c_proj=int8", "h.1=f32", "h.1.mlp.c_proj=int4:g128:sparse", "lm_head=int4", "mlp.c_fc=int8:dense",
        ] {
            recipe.overrides.append(try Recipe.Override(parsing: text))
        }
        let formats = try formats(recipe)
        #expect(formats["h.0.attn.c_attn.weight"] == "int4:g32:auto")
        #expect(formats["h.0.attn.c_proj.weight"] == "int8:auto")
        #expect(formats["h.0.mlp.c_fc.weight"] == "int8:dense")
        #expect(formats["h.1.attn.c_attn.weight"] == "f32")
        #expect(formats["h.1.attn.c_proj.weight"] == "f32")
        #expect(formats["h.1.mlp.c_fc.weight"] == "int8:dense")
        #expect(formats["h.1.mlp.c_proj.weight"] == "int4:g128:sparse")
        // The tied table by the head's name: what the override leaves open is dense there.
        #expect(formats["wte.weight"] == "int4:g32:dense")
    }

    @Test func aPatternThatMeansNothingIsRefused() throws {
        let checkpoint = try BentCheckpoint()
        let names = try checkpoint.names()
        let recipe = Recipe(overrides: [.init(pattern: "h.7", format: TensorFormat(.int4))])
        let error = try #require(throws: LatheError.self) {
            try Compiler(recipe: recipe).compile(checkpoint: checkpoint.path, output: checkpoint.file("out.lathe"))
        }
        #expect(error.names("--override", "h.7", "wte.weight"), "\(error.message)")
        #expect(try checkpoint.names() == names)
    }

    @Test func calibratedStepsNeedAText() throws {
        let checkpoint = try BentCheckpoint()
        let names = try checkpoint.names()
        for change in [{ $0.method = .gptq }, { $0.smooth = 0.5 }, { $0.correctsBias = true }]
            as [(inout Recipe) -> Void]
        {
            var recipe = Recipe()
            change(&recipe)
            let error = try #require(throws: LatheError.self) {
                try Compiler(recipe: recipe).compile(checkpoint: checkpoint.path, output: checkpoint.file("out.lathe"))
            }
            #expect(error.names("--calibration"), "\(error.message)")
        }
        #expect(try checkpoint.names() == names)
    }
}
