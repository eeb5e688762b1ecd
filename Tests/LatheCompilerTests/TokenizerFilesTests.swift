import FoundationEssentials
import Lathe
import LatheCompiler
import LatheFormat
import Testing

/// `vocab.json` and `merges.txt` with what may stand beside them.
@Suite struct TokenizerFilesTests {
    private static let vocabulary = #"{"a":0,"b":1,"ab":2,"Ġ":3,"c":4,"<|endoftext|>":5}"#
    private static let merges = "#version: 0.2\na b\n"

    private func tokenizer(_ files: [String: String] = [:]) throws -> Tokenizer {
        let all = files.merging(["vocab.json": Self.vocabulary, "merges.txt": Self.merges]) { own, _ in own }
        let tables = try #require(try TokenizerFolder(all).compile())
        return try Tokenizer(tables: tables, source: "test")
    }

    @Test func theTwoFilesAlone() throws {
        let plain = try tokenizer()
        #expect(plain.encode("ab c<|endoftext|>ab") == [2, 3, 4, 5, 2])
        #expect(plain.isSpecial(5) && plain.vocabularySize == 6)
        #expect(try tokenizer(["merges.txt": "a b\r\n\n"]).encode("ab") == [2])
    }

    @Test func addedTokensAndOptions() throws {
        let decoder = #"{"added_tokens_decoder":{"6":{"content":"<x>","rstrip":true},"5":{"content":"<|endoftext|>"}}}"#
        let configured = try tokenizer(["tokenizer_config.json": decoder])
        #expect(configured.encode("a<x>  b<|endoftext|>") == [0, 6, 1, 5] && configured.vocabularySize == 7)

        let added = try tokenizer([
            "added_tokens.json": #"{"<y>":7,"<x>":6}"#, "special_tokens_map.json": #"{"bos_token":"<y>"}"#,
        ])
        #expect(added.encode("<y>a<x>") == [7, 0, 6])
        #expect(added.isSpecial(7) && !added.isSpecial(6))

        let named = try tokenizer([
            "special_tokens_map.json":
                #"{"pad_token":{"content":"<p>","lstrip":true},"additional_special_tokens":["<q>"]}"#
        ])
        #expect(named.encode("a  <p><q>") == [0, 6, 7])

        #expect(try tokenizer(["tokenizer_config.json": #"{"add_prefix_space":true}"#]).encode("ab") == [3, 2])
    }

    @Test(arguments: ["GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"])
    func genericClassesReadTheSameFiles(name: String) throws {
        let configuration = #"{"tokenizer_class":"\#(name)","add_bos_token":true,"bos_token":"b"}"#
        #expect(try tokenizer(["tokenizer_config.json": configuration]).encode("ab").first == 1)
    }

    @Test(arguments: [
        (["tokenizer_config.json": #"{"tokenizer_class":"CLIPTokenizer"}"#], "CLIPTokenizer"),
        (["tokenizer_config.json": #"{"add_eos_token":true}"#], "add_eos_token"),
        (["tokenizer_config.json": #"{"added_tokens_decoder":{"x":{"content":"<x>"}}}"#], "\"x\""),
        (["added_tokens.json": #"{"<x>":2}"#], "\"<x>\""),
        (["merges.txt": "a b c\n"], "merges.txt: line 1"),
        (["merges.txt": "a b\na q\n"], "\"q\""),
        (["vocab.json": #"{"a":0,"b":0}"#], "\"b\""),
    ])
    func wrongFiles(files: [String: String], named: String) throws {
        let error = try #require(throws: LatheError.self) { try tokenizer(files) }
        #expect(error.message.contains(named), "\(error)")
    }

    @Test(.enabled(if: TokenizerFixtures.gpt2 != nil, "shared/data/gpt2-tokenizer is not beside the package"))
    func gpt2WithoutItsTokenizerJSON() throws {
        let source = try #require(TokenizerFixtures.gpt2)
        var files: [String: String] = [:]
        for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
            files[name] = String(decoding: try TokenizerFixtures.bytes("\(source)/\(name)"), as: UTF8.self)
        }
        let tables = try #require(try TokenizerFolder(files).compile())
        let whole = try #require(try TokenizerCompiler.compile(folder: source))
        #expect(tables.settings == whole.settings)
        for (a, b) in zip(tables.tensors, whole.tensors) { #expect(a.bytes.array() == b.bytes.array(), "\(a.name)") }
    }
}
