import Lathe
import LatheCompiler
import LatheFormat
import Testing

/// What descriptions and tables must not get away with.
@Suite struct TokenizerFaultTests {
    static let merges = [("a", "b"), ("ab", "c")]
    static let sample = TokenizerSamples.bytes(merges: merges, added: [TokenizerSamples.added(258, "<e>")])

    /// One change to a sound description; the message must name the file and `named`.
    struct Change: Sendable, CustomTestStringConvertible {
        var path: [String]
        var value: JSON?
        var named: String
        var testDescription: String { "\(path.joined(separator: ".")): \(value?.serialized() ?? "absent")" }

        init(_ path: String, _ value: JSON?, _ named: String) {
            self.path = path.split(separator: ".").map(String.init)
            self.value = value
            self.named = named
        }
    }

    static let changes: [Change] = [
        Change("version", "2.0", "version"),
        Change("normalizer", ["type": "NFC"], "\"NFC\""),
        Change("model.type", "Unigram", "\"Unigram\""),
        Change("model.type", 3, "type"),
        Change("model.dropout", 0.1, "dropout"),
        Change("model.byte_fallback", true, "byte_fallback"),
        Change("model.continuing_subword_prefix", "##", "continuing_subword_prefix"),
        Change("model.end_of_word_suffix", "</w>", "end_of_word_suffix"),
        Change("model.merges", nil, "merges"),
        Change("model.vocab", nil, "vocab"),
        Change("model.vocab", JSON.object(JSONObject()), "empty"),
        Change("model.vocab.new", 5, "\"new\""),
        Change("model.vocab.new", 100_000, "\"new\""),
        Change("model.vocab.new", -1, "\"new\""),
        Change("model.vocab.new", "5", "\"new\""),
        Change("model.vocab.new", 4_294_967_296, "\"new\""),
        Change("model.merges", ["a b", "ab c", "ab q"], "\"abq\""),
        Change("model.merges", [["a", "nothing"]], "\"nothing\""),
        Change("model.merges", ["ab"], "merges[0]"),
        Change("model.merges", ["a b c"], "merges[0]"),
        Change("model.merges", [["a"]], "merges[0]"),
        Change("model.merges", [7], "merges[0]"),
        Change("pre_tokenizer", nil, "pre_tokenizer"),
        Change("pre_tokenizer", ["type": "Whitespace"], "\"Whitespace\""),
        Change(
            "pre_tokenizer", ["type": "Sequence", "pretokenizers": [["type": "Digits"], ["type": "ByteLevel"]]],
            "add_prefix_space"),
        Change("post_processor", ["type": "RobertaProcessing"], "\"RobertaProcessing\""),
        Change("post_processor", ["type": "TemplateProcessing", "single": []], "single"),
        Change("post_processor", template(id: 259), "the id 259"),
        Change("post_processor", template(id: -1), "\"<x>\""),
        Change("decoder", ["type": "Metaspace"], "\"Metaspace\""),
        Change("added_tokens", [TokenizerSamples.added(7, "<x>")], "\"<x>\""),
        Change("added_tokens", [TokenizerSamples.added(258, "<x>"), TokenizerSamples.added(258, "<y>")], "\"<y>\""),
        Change("added_tokens", [["content": "<x>"]], "\"id\""),
        Change("added_tokens", ["<x>"], "added_tokens[0]"),
    ]

    /// A template that puts one token before the text.
    private static func template(id: Int) -> JSON {
        [
            "type": "TemplateProcessing",
            "single": [["SpecialToken": ["id": "<x>", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]]],
            "special_tokens": ["<x>": ["id": "<x>", "ids": [.number(id)], "tokens": ["<x>"]]],
        ]
    }

    @Test(arguments: changes)
    func wrongDescriptions(change: Change) throws {
        let text = Self.sample.replacing(change.path, with: change.value).serialized()
        let error = try TokenizerFolder.failure(["tokenizer.json": text])
        #expect(error.message.contains("/tokenizer.json: ") && error.message.contains(change.named), "\(error)")
    }

    private static let leftovers: [(field: String, value: JSON)] = [
        ("truncation", ["max_length": 2, "stride": 0, "strategy": "LongestFirst"]),
        ("padding", ["strategy": ["Fixed": 10], "pad_id": 0]),
    ]

    /// What a training run leaves in the file concerns its batches: texts are neither cut nor filled, and a note says so.
    @Test(arguments: leftovers.indices)
    func settingsOfATrainingRunArePassedOver(index: Int) throws {
        let (field, value) = Self.leftovers[index]
        let folder = try TokenizerFolder(["tokenizer.json": Self.sample.replacing([field], with: value).serialized()])
        var warnings: [String] = []
        let tables = try #require(try TokenizerCompiler.compile(folder: folder.path) { warnings.append($0) })
        #expect(warnings.count == 1 && warnings[0].contains(field), "\(warnings)")
        #expect(try Tokenizer(tables: tables, source: "test").encode("abc<e>ab") == [257, 258, 256])
    }

    /// As Hugging Face tokenizers: the next id behind the vocabulary, whatever the file states.
    @Test func addedTokensGetTheNextId() throws {
        let added = Self.sample.replacing(["added_tokens"], with: [TokenizerSamples.added(300, "<x>")])
        let folder = try TokenizerFolder(["tokenizer.json": added.serialized()])
        var warnings: [String] = []
        let tables = try #require(try TokenizerCompiler.compile(folder: folder.path) { warnings.append($0) })
        #expect(warnings.count == 1 && warnings[0].contains("\"<x>\"") && warnings[0].contains("300"), "\(warnings)")
        #expect(try Tokenizer(tables: tables, source: "test").encode("<x>") == [258])
    }

    @Test func theSampleItselfIsSound() throws {
        let tokenizer = try TokenizerFolder.tokenizer(Self.sample)
        #expect(tokenizer.encode("abc<e>ab") == [257, 258, 256])
        #expect(try tokenizer.decode([257, 258]) == "abc<e>")
    }

    @Test func overlongTokens() throws {
        let long = String(repeating: "a", count: 10_000_000)
        let error = try TokenizerFolder.failure([
            "tokenizer.json": Self.sample.replacing(["model", "vocab", long], with: 258).serialized()
        ])
        #expect(error.message.contains("10000000 bytes") && error.message.utf8.count < 400)
        let added = Self.sample.replacing(["added_tokens"], with: [TokenizerSamples.added(258, long)])
        let other = try TokenizerFolder.failure(["tokenizer.json": added.serialized()])
        #expect(other.message.contains("10000000 bytes") && other.message.contains("added_tokens"))
    }

    @Test func idsBeyondTheModel() throws {
        let error = try TokenizerFolder.failure([
            "tokenizer.json": Self.sample.serialized(), "config.json": #"{"vocab_size": 258}"#,
        ])
        #expect(error.message.contains("\"<e>\"") && error.message.contains("only 258"))
        let folder = try TokenizerFolder([
            "tokenizer.json": Self.sample.serialized(), "config.json": #"{"vocab_size": 259}"#,
        ])
        #expect(try folder.compile() != nil)
    }

    @Test(arguments: [
        ("", "not valid JSON"), ("{", "not valid JSON"), ("[]", "an object"), ("{\"a\":1,\"a\":2}", "occurs twice"),
        ("version https://git-lfs.github.com/spec/v1\n", "Git LFS"), ("<!doctype html>", "HTML"),
    ])
    func filesThatAreNoTokenizer(text: String, named: String) throws {
        let error = try TokenizerFolder.failure(["tokenizer.json": text])
        #expect(error.message.contains("tokenizer.json") && error.message.contains(named), "\(error)")
    }

    @Test func foldersWithoutTokenizer() throws {
        #expect(try TokenizerFolder(["config.json": "{}"]).compile() == nil)
        #expect(try TokenizerFolder.failure(["spiece.model": ""]).code == .unsupported)
        #expect(try TokenizerFolder.failure(["vocab.json": #"{"a":0}"#]).message.contains("merges.txt is missing"))
        #expect(try TokenizerFolder.failure(["merges.txt": ""]).message.contains("vocab.json is missing"))
    }

    @Test func theSameDescriptionGivesTheSameBytes() throws {
        let first = try TokenizerFolder.tables(Self.sample)
        let second = try TokenizerFolder.tables(Self.sample)
        #expect(first.settings == second.settings)
        #expect(first.tensors.map(\.name) == TokenizerTables.Name.allCases.map(\.rawValue))
        for (a, b) in zip(first.tensors, second.tensors) {
            #expect(a.bytes.array() == b.bytes.array() && a.bytes.count % 64 == 0)
        }
        for setting in TokenizerTables.Setting.allCases { #expect(first.settings[setting.rawValue] != nil) }
    }

    // MARK: Tables

    @Test(arguments: TokenizerTables.Name.allCases)
    func missingAndTruncatedTensors(name: TokenizerTables.Name) throws {
        let tables = try TokenizerFolder.tables(Self.sample)
        let position = try #require(tables.tensors.firstIndex { $0.name == name.rawValue })
        var without = tables
        without.tensors.remove(at: position)
        var short = tables
        short.tensors[position].bytes = ByteView(copying: [])
        for bent in [without, short] {
            let error = try #require(throws: LatheError.self) { try Tokenizer(tables: bent, source: "m.lathe") }
            #expect(error.message.contains("m.lathe") && error.message.contains(name.rawValue))
        }
    }

    @Test(arguments: TokenizerTables.Setting.allCases)
    func missingAndSenselessSettings(setting: TokenizerTables.Setting) throws {
        let tables = try TokenizerFolder.tables(Self.sample)
        for value in [nil, "x", "-1", "99999999999999999999"] as [String?] {
            var bent = tables
            bent.settings[setting.rawValue] = value
            let error = try #require(throws: LatheError.self) { try Tokenizer(tables: bent, source: "m.lathe") }
            #expect(error.message.contains("m.lathe"))
        }
    }

    /// Whatever a table says, loading throws or the tokenizer works within bounds and ends.
    @Test(arguments: TokenizerTables.Name.allCases)
    func lyingTables(name: TokenizerTables.Name) throws {
        let tables = try TokenizerFolder.tables(
            TokenizerSamples.bytes(
                merges: TokenizerPropertyTests.merges,
                added: [TokenizerSamples.added(274, "<e>"), TokenizerSamples.added(275, "<end>")]))
        let position = try #require(tables.tensors.firstIndex { $0.name == name.rawValue })
        let bytes = tables.tensors[position].bytes.array()
        var random = TokenizerRandom(state: 4)
        var loaded = 0
        for _ in 0..<1500 {
            var bent = bytes
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let value = [0, 1, 2, 0x61, 0x7F, 0xFF][Int.random(in: 0..<6, using: &random)] as UInt8
                bent[Int.random(in: 0..<bent.count, using: &random)] = value
            }
            var lying = tables
            lying.tensors[position].bytes = ByteView(copying: bent)
            guard let tokenizer = try? Tokenizer(tables: lying, source: "m.lathe") else { continue }
            loaded += 1
            let ids = tokenizer.encode("abcabc the<e> défdef <end>  aaaaaaaa<en\u{3000}" + random.text(limit: 20))
            #expect(ids.allSatisfy { $0 >= 0 && $0 < tokenizer.vocabularySize })
            _ = try tokenizer.decode(ids)
            _ = tokenizer.id(of: "<e>")
        }
        #expect(loaded > 0)
    }
}
