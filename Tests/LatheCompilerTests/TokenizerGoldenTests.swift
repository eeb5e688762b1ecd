import FoundationEssentials
import Lathe
import LatheCompiler
import LatheFormat
import Testing

/// Equality with Hugging Face tokenizers; the values are made by scripts/golden/tokenizer.py.
@Suite struct TokenizerGoldenTests {
    @Test(.enabled(if: TokenizerFixtures.gpt2 != nil, "shared/data/gpt2-tokenizer is not beside the package"))
    func gpt2() throws {
        try checkTexts(of: "gpt2")
        let folder = try #require(TokenizerFixtures.gpt2)
        let texts = try String(decoding: TokenizerFixtures.bytes("\(folder)/llamacpp-gpt-2.inp"), as: UTF8.self)
            .split(separator: "\n__ggml_vocab_test__\n", omittingEmptySubsequences: false)
        let ids = try String(decoding: TokenizerFixtures.bytes("\(folder)/llamacpp-gpt-2.out"), as: UTF8.self)
            .split(separator: "\n", omittingEmptySubsequences: false).map {
                $0.split(separator: " ").compactMap { Int32($0) }
            }
        let tokenizer = try TokenizerFixtures.tokenizer(folder: folder)
        #expect(texts.count > 30 && ids.count >= texts.count)
        for (text, expected) in zip(texts, ids) { #expect(tokenizer.encode(String(text)) == expected, "\(text)") }
    }

    @Test(.enabled(if: TokenizerFixtures.novelist != nil, "models/novelist is neither in the package nor beside it"))
    func novelist() throws { try checkTexts(of: "novelist") }

    private func checkTexts(of name: String) throws {
        let tokenizer = try TokenizerFixtures.tokenizer(folder: try #require(TokenizerFixtures.folder(name)))
        let golden = try TokenizerFixtures.golden("texts").object(name, in: "texts.json")
        #expect(try check(try golden.array("cases", in: name), tokenizer, name) > 50)
        for element in try golden.array("decodings", in: name) {
            let (ids, decoded) = try decoding(element)
            #expect(try tokenizer.decode(ids) == decoded, "\(name): \(ids)")
            #expect(streamed(ids, tokenizer) == decoded, "\(name): \(ids)")
        }
    }

    @Test(
        .enabled(if: TokenizerFixtures.bothAreThere, "shared/data/gpt2-tokenizer is not beside the package"),
        arguments: ["gpt2", "novelist"])
    func everyMemberOfTheVocabularyHasItsId(name: String) throws {
        let folder = try #require(TokenizerFixtures.folder(name))
        let tokenizer = try TokenizerFixtures.tokenizer(folder: folder)
        let path = "\(folder)/tokenizer.json"
        let file = try JSON.parse(try TokenizerFixtures.bytes(path), source: path).object(at: path)
        let vocabulary = try file.object("model", in: path).object("vocab", in: path)
        #expect(tokenizer.vocabularySize == vocabulary.count)
        for member in vocabulary.members {
            #expect(tokenizer.id(of: member.key).map { JSON.number($0) } == member.value)
        }
        #expect(tokenizer.id(of: "there is no such token") == nil)
        let end = try #require(tokenizer.id(of: "<|endoftext|>"))
        #expect(tokenizer.isSpecial(end) && !tokenizer.isSpecial(end ^ 1))
    }

    @Test func synthetic() throws {
        let golden = try TokenizerFixtures.golden("synthetic")
        var count = 0
        for element in try golden.array("tokenizers", in: "synthetic.json") { count += try checkGroup(element) }
        #expect(count > 500)
    }

    @Test(.enabled(if: TokenizerFixtures.cases != nil, "LATHE_TOKENIZER_CASES names no file of random cases"))
    func differential() throws {
        let path = try #require(TokenizerFixtures.cases)
        let golden = try JSON.parse(try TokenizerFixtures.bytes(path), source: path).object(at: path)
        var count = 0
        for element in try golden.array("tokenizers", in: path) { count += try checkGroup(element) }
        #expect(count > 0)
        print("\(count) random cases compared")
    }

    @Test(
        .enabled(if: TokenizerFixtures.wikitext != nil, "shared/data/wikitext2 is not beside the package"),
        .enabled(if: TokenizerFixtures.bothAreThere, "shared/data/gpt2-tokenizer is not beside the package"),
        arguments: ["gpt2", "novelist"])
    func wikitext(name: String) throws {
        let tokenizer = try TokenizerFixtures.tokenizer(folder: try #require(TokenizerFixtures.folder(name)))
        let golden = try TokenizerFixtures.golden("wikitext").object(name, in: "wikitext.json")
        let text = try TokenizerFixtures.bytes(try #require(TokenizerFixtures.wikitext))
        #expect(text.count == (try golden.int("bytes", in: name)))
        let ids = try tokenizer.encode(bytes: text)
        #expect(ids.count == (try golden.int("tokens", in: name)))
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for id in ids {
            for shift: Int32 in [0, 8, 16, 24] { hash = (hash ^ UInt64(id >> shift & 0xFF)) &* 0x100_0000_01B3 }
        }
        let digits = String(hash, radix: 16)
        #expect(String(repeating: "0", count: 16 - digits.count) + digits == (try golden.string("fnv1a64", in: name)))
        #expect(try tokenizer.decodeBytes(ids) == text)
    }

    // MARK: Cases

    private func checkGroup(_ element: JSON) throws -> Int {
        let group = try element.object(at: "group")
        let name = try group.string("name", in: "group")
        let tokenizer = try TokenizerFolder.tokenizer(try group.value("tokenizer", in: name))
        return try check(try group.array("cases", in: name), tokenizer, name)
    }

    private func check(_ cases: [JSON], _ tokenizer: Tokenizer, _ name: String) throws -> Int {
        for element in cases {
            let fields = try element.object(at: name)
            let text = try fields.string("text", in: name)
            let (expected, decoded) = try decoding(element)
            if fields["decode_only"] != true {
                #expect(tokenizer.encode(text) == expected, "\(name): \(quoted(text, limit: 1000))")
                #expect(try tokenizer.encode(bytes: Array(text.utf8)) == expected)
            }
            // Compared as bytes: String compares by canonical equivalence.
            #expect(try Array(tokenizer.decode(expected).utf8) == Array(decoded.utf8), "\(name): \(expected)")
            #expect(Array(streamed(expected, tokenizer).utf8) == Array(decoded.utf8), "\(name): \(expected)")
        }
        return cases.count
    }

    private func decoding(_ element: JSON) throws -> (ids: [Int32], text: String) {
        let fields = try element.object(at: "case")
        let ids = try fields.array("ids", in: "case").map { Int32(try $0.int(at: "id")) }
        return (ids, try fields.string("decoded", in: "case"))
    }

    private func streamed(_ ids: [Int32], _ tokenizer: Tokenizer) -> String {
        var decoder = StreamingDecoder(tokenizer)
        let text = ids.map { decoder.append($0) }.joined()
        return text + decoder.finish()
    }
}
