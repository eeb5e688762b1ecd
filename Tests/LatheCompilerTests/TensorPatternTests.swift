import LatheFormat
import Testing

@testable import LatheCompiler

/// How `--exclude` and its like name parameters.
@Suite struct TensorPatternTests {
    @Test(arguments: [
        ("h.0.attn.c_attn.weight", "h.0.attn.c_attn.weight"), ("h.0.attn.c_attn", "h.0.attn.c_attn.weight"),
        ("c_attn", "h.0.attn.c_attn.weight"), ("attn", "h.0.attn.c_attn.weight"), ("h.0", "h.0.mlp.c_fc.weight"),
        ("h.*.mlp", "h.11.mlp.c_fc.weight"), ("c_*", "h.3.attn.c_proj.weight"), ("h.?.mlp.*", "h.3.mlp.c_fc.weight"),
        ("*", "wte.weight"), ("**", "wte.weight"), ("w?e", "wte.weight"), ("wte", "wte.weight"),
        ("*.c_*j.w*t", "h.3.attn.c_proj.weight"), ("mlp.c_proj", "h.0.mlp.c_proj.weight"),
    ])
    func matches(pattern: String, name: String) throws {
        #expect(try TensorPattern(pattern).matches(name))
    }

    @Test(arguments: [
        ("h.1", "h.10.mlp.c_fc.weight"), ("attn", "h.0.mlp.c_fc.weight"), ("c_att", "h.0.attn.c_attn.weight"),
        ("h.?.mlp", "h.10.mlp.c_fc.weight"), ("wte.bias", "wte.weight"), (".", "wte.weight"), ("?", "wte.weight"),
        ("attn.weight", "h.0.attn.c_attn.weight"), ("C_ATTN", "h.0.attn.c_attn.weight"), ("e*x", "wte.weight"),
    ])
    func doesNotMatch(pattern: String, name: String) throws {
        #expect(try !TensorPattern(pattern).matches(name))
    }

    private static func definition() throws -> ModelDefinition {
        let folder = try BentCheckpoint()
        return try withExtendedLifetime(folder) { try Architectures.define(try Checkpoint(path: folder.path)) }
    }

    @Test func anEmptyPatternIsRefused() throws {
        #expect(try #require(throws: LatheError.self) { try TensorPattern("") }.names("empty"))
    }

    @Test func aTiedHeadAnswersToItsName() throws {
        let definition = try Self.definition()
        #expect(definition.headParameter == "wte.weight")
        #expect(definition.embeddingTables == ["wte.weight", "wpe.weight"])
        let found = try definition.matrices(
            matching: [TensorPattern("lm_head"), TensorPattern("mlp"), TensorPattern("h.1")], option: "--exclude")
        #expect(found[0] == ["wte.weight"])
        #expect(
            found[1]
                == ["h.0.mlp.c_fc.weight", "h.0.mlp.c_proj.weight", "h.1.mlp.c_fc.weight", "h.1.mlp.c_proj.weight"])
        #expect(found[2].count == 4)
    }

    /// `ln_1` is there, but is no matrix.
    @Test(arguments: ["nothing", "ln_1", "h.2"])
    func aPatternThatMatchesNothingIsRefused(text: String) throws {
        let definition = try Self.definition()
        let error = try #require(throws: LatheError.self) {
            try definition.matrices(matching: [TensorPattern(text)], option: "--exclude")
        }
        #expect(error.names("--exclude", text, "wte.weight", "h.0.attn.c_attn.weight"), "\(error.message)")
    }
}
