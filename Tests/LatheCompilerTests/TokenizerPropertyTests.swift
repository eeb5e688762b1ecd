import LatheCompiler
import LatheFormat
import Testing

@testable import Lathe

@Suite struct TokenizerPropertyTests {
    static let merges = [
        ("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "a"), ("aa", "aa"), ("aaaa", "aaaa"), ("a", "b"), ("ab", "c"),
        ("b", "c"),
        ("c", "a"), ("Ġ", "Ġ"), ("Ã", "©"), ("d", "e"), ("e", "f"), ("de", "f"), ("f", "de"), ("ab", "ab"), ("'", "s"),
    ]

    @Test func decodingWhatWasEncodedGivesTheText() throws {
        let tokenizer = try TokenizerFolder.tokenizer(TokenizerSamples.bytes(merges: Self.merges))
        var random = TokenizerRandom(state: 1)
        for _ in 0..<2000 {
            let text = random.text(limit: 60)
            let ids = tokenizer.encode(text)
            #expect(try tokenizer.decodeBytes(ids) == Array(text.utf8))
            #expect(ids.allSatisfy { $0 >= 0 && $0 < tokenizer.vocabularySize })
        }
    }

    @Test func streamsGiveWholeCharactersOnly() throws {
        let tokenizer = try TokenizerFolder.tokenizer(TokenizerSamples.bytes())
        var decoder = StreamingDecoder(tokenizer)
        // The euro sign in three tokens, a lone lead byte, a letter.
        let parts = [0xE2, 0x82, 0xAC, 0xF0, 0x41].map { decoder.append($0) }
        #expect(parts == ["", "", "€", "", "\u{FFFD}A"])
        #expect(decoder.append(-1) == "" && decoder.append(256) == "")
        #expect(decoder.append(0xE2) == "" && decoder.finish() == "\u{FFFD}" && decoder.finish() == "")
    }

    @Test func streamsAgreeWithDecodingAtOnce() throws {
        let tokenizer = try TokenizerFolder.tokenizer(TokenizerSamples.bytes())
        // Bytes around every limit of the UTF-8 forms.
        let bytes: [Int32] = [
            0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0,
            0xF1, 0xF4,
            0xF5, 0xFF,
        ]
        var random = TokenizerRandom(state: 2)
        for _ in 0..<5000 {
            let ids = (0..<8).map { _ in bytes.randomElement(using: &random) ?? 0 }
            var decoder = StreamingDecoder(tokenizer)
            let text = ids.map { decoder.append($0) }.joined()
            #expect(try Array((text + decoder.finish()).utf8) == Array(tokenizer.decode(ids).utf8), "\(ids)")
        }
    }

    @Test func invalidTextIsRefusedWithItsOffset() throws {
        let tokenizer = try TokenizerFolder.tokenizer(TokenizerSamples.bytes())
        for (bytes, offset) in [([0x61, 0xFF], 1), ([0x61, 0x62, 0xED, 0xA0, 0x80], 2), ([0xE2, 0x82], 0)]
            as [([UInt8], Int)]
        {
            let error = try #require(throws: LatheError.self) { try tokenizer.encode(bytes: bytes) }
            #expect(error.code == .invalidRequest && error.message.contains("at byte \(offset);"))
        }
        for id: Int32 in [-1, 256, .max, .min] {
            let error = try #require(throws: LatheError.self) { try tokenizer.decode([65, id]) }
            #expect(error.code == .invalidRequest && error.message.contains("\(id)"))
            #expect(throws: LatheError.self) { try tokenizer.bytes(of: id) }
        }
        #expect(try tokenizer.bytes(of: 0xE2) == [0xE2])
    }

    /// The counts of Unicode 16.0, as scripts/generate_unicode_classes.py found them in Hugging Face tokenizers.
    @Test func unicodeClasses() {
        var counts: [UnicodeClasses.Class: Int] = [:]
        for code: UInt32 in 0..<0x11_0000 { counts[UnicodeClasses.shared[code], default: 0] += 1 }
        #expect(counts[.letter] == 141_028 && counts[.space] == 25)
        #expect(counts[.number, default: 0] + counts[.numberWord, default: 0] == 1911)
        #expect(
            counts[.letter, default: 0] + counts[.numberWord, default: 0] + counts[.otherWord, default: 0] == 144_667)
        #expect(UnicodeClasses.shared[0x180E] == .other && UnicodeClasses.shared[0xBD] == .number)
    }

    // MARK: Merging

    private func merged(
        _ word: [UInt8], _ tokenizer: Tokenizer, shortLimit: Int
    ) -> (ids: [Int32], operations: Int) {
        let storage = tokenizer.storage
        var merger = PairMerger(
            capacity: storage.merges.count / 4, probes: storage.mergeProbes, shortLimit: shortLimit)
        var ids: [Int32] = []
        merger.begin(length: word.count)
        storage.merges.withSpan { table in
            for byte in word { merger.append(storage.byteTokens[Int(byte)]) }
            merger.merge(by: table, into: &ids)
        }
        return (ids, merger.operations)
    }

    @Test func theHeapMergesAsTheSearchDoes() throws {
        let tokenizer = try TokenizerFolder.tokenizer(TokenizerSamples.bytes(merges: Self.merges))
        var random = TokenizerRandom(state: 3)
        for _ in 0..<2000 {
            let word = (0..<Int.random(in: 1...80, using: &random)).map { _ in
                "aaaabbccdef ".utf8.randomElement(using: &random) ?? 0
            }
            #expect(merged(word, tokenizer, shortLimit: 0).ids == merged(word, tokenizer, shortLimit: .max).ids)
        }
    }

    /// Fault 29: the operations on one long word grow hardly faster than the word.
    @Test(arguments: ["a", "ab", "abc", "the", "xyz"])
    func longWordsTakeNearLinearTime(unit: String) throws {
        let tokenizer = try TokenizerFolder.tokenizer(TokenizerSamples.bytes(merges: Self.merges))
        let lengths = [1 << 14, 1 << 17, 1 << 20]
        let operations = lengths.map { length in
            let word = Array(String(repeating: unit, count: length / unit.utf8.count).utf8)
            return merged(word, tokenizer, shortLimit: 32).operations
        }
        // A heap of n entries is log2(n) high: 64 n would do for a megabyte, n² is 2²⁰ n.
        for (length, count) in zip(lengths, operations) { #expect(count < 100 * length) }
        #expect(operations[2] < 12 * operations[1])
    }

    @Test func aMegabyteOfOneLetterIsOneWord() throws {
        let tokenizer = try TokenizerFolder.tokenizer(TokenizerSamples.bytes(merges: Self.merges))
        let ids = tokenizer.encode(String(repeating: "a", count: 1 << 20))
        let longest = try #require(tokenizer.id(of: "aaaaaaaa"))
        // Not compared as arrays: a failure would print their difference for minutes.
        let isAsExpected = ids.count == 1 << 17 && ids.allSatisfy { $0 == longest }
        #expect(isAsExpected)
    }
}
