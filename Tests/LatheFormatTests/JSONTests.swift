import TestSupport
import Testing

@testable import LatheFormat

@Suite struct JSONTests {
    private func parse(_ text: String, maximumDepth: Int = 64) throws(LatheError) -> JSON {
        try JSON.parse(Array(text.utf8), source: "test.json", maximumDepth: maximumDepth)
    }

    // MARK: What is JSON

    @Test(
        arguments: [
            ("null", JSON.null), (" true ", true), ("\t\r\nfalse\n", false), ("\"\"", ""), ("[]", []), ("{}", [:]),
            ("[ ]", []), ("{ }", [:]), ("[1]", [1]), ("[ 1 , 2 ]", [1, 2]), ("[[[]],{}]", [[[]], [:]]),
            ("{\"a\":1,\"b\":[null]}", ["a": 1, "b": [nil]]), ("{\"\":0}", ["": 0]),
            ("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\u{8}\u{C}\n\r\t"), ("\"\\u0041\\u00e9\\u20AC\"", "Aé€"),
            ("\"\\ud83d\\uDE00\"", "\u{1F600}"), ("\"\\u0000\"", "\0"), ("\"é€\u{1F600}\u{7F}\"", "é€\u{1F600}\u{7F}"),
            ("\"\u{10FFFF}\u{E000}\u{D7FF}\u{FFFD}\"", "\u{10FFFF}\u{E000}\u{D7FF}\u{FFFD}"),
            ("\"\u{FEFF}\"", "\u{FEFF}"),
        ] as [(String, JSON)])
    func acceptsAndReads(text: String, expected: JSON) throws {
        #expect(try parse(text) == expected)
    }

    @Test(arguments: [
        "0", "-0", "1", "-1", "10", "0.0", "-0.5", "1e3", "1E+3", "1e-03", "123456789012345678901234567890", "1.25e300",
        "1e999",
    ])
    func numbersKeepTheirDigits(text: String) throws {
        #expect(try parse(text) == .number(text))
        #expect(try parse("[\(text)]").serialized() == "[\(text)]")
    }

    @Test(arguments: [
        "", " ", "nul", "nulll", "True", "NaN", "Infinity", "-Infinity", "'a'", "[1,]", "[,1]", "[1 2]", "[", "]", "{",
        "}",
        "[1", "[1,", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,}", "{a:1}", "{1:1}", "{\"a\" 1}",
        "{\"a\":1 \"b\":2}", "01", "-01", "00", "+1", "-", ".5", "1.", "1.e3", "1e", "1e+", "0x10", "1_000", "--1",
        "1a",
        "\"", "\"a", "\"\\", "\"\\\"", "\"\\x41\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\u 123\"", "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\ud800\"", "\"\\ud800x\"", "\"\\ud800\\n\"", "\"a\nb\"", "\"a\tb\"", "\"\0\"", "\"\u{1F}\"", "1 2",
        "{}{}", "[]\0", "\u{FEFF}{}", "/* c */ 1", "[1] // c", "\u{A0}1", "\u{B}1", "é",
    ])
    func refuses(text: String) {
        let error = LatheFormatTests.error { () throws(LatheError) in _ = try parse(text) }
        #expect(error?.code == .corrupt)
        #expect(error?.message.contains("test.json") == true)
        #expect(error?.message.contains("at byte ") == true)
    }

    /// Overlong forms, surrogates, values beyond U+10FFFF, lone and missing continuation bytes.
    @Test(
        arguments: [
            [0x80], [0xC0, 0x80], [0xC1, 0xBF], [0xC3], [0xC3, 0x28], [0xE0, 0x80, 0x80], [0xE2, 0x82],
            [0xE2, 0x28, 0xA1],
            [0xE2, 0x82, 0x28], [0xED, 0xA0, 0x80], [0xED, 0xBF, 0xBF], [0xF0, 0x80, 0x80, 0x80], [0xF0, 0x9F, 0x98],
            [0xF0, 0x9F, 0x98, 0x28], [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xFE], [0xFF],
        ] as [[UInt8]])
    func refusesMalformedUTF8(sequence: [UInt8]) {
        let quote = UInt8(ascii: "\"")
        for bytes in [[quote] + sequence + [quote], [quote, 0x61] + sequence] {
            let error = LatheFormatTests.error { () throws(LatheError) in _ = try JSON.parse(bytes, source: "x") }
            #expect(error != nil)
        }
    }

    @Test func everyWellFormedScalarIsReadAsItIs() throws {
        var text = ""
        for value in UInt32(0x20)...0x10FFFF {
            guard let scalar = Unicode.Scalar(value), scalar != "\"", scalar != "\\" else { continue }
            text.unicodeScalars.append(scalar)
        }
        guard case .string(let read) = try parse("\"\(text)\"") else { throw LatheError(.corrupt, "no string") }
        #expect(read.utf8.elementsEqual(text.utf8))
    }

    // MARK: Errors say where

    @Test func errorsNameTheByte() {
        let error = LatheFormatTests.error { () throws(LatheError) in _ = try parse("{\"a\": [1, x]}") }
        #expect(error?.message == "test.json is not valid JSON: a JSON value should stand here, at byte 10.")
    }

    @Test func duplicateKeysAreRefusedByName() {
        for text in ["{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":1,\"b\":2,\"\\u0061\":3}"] {
            let error = LatheFormatTests.error { () throws(LatheError) in _ = try parse(text) }
            #expect(error?.message.contains("the key \"a\" occurs twice") == true)
            #expect(error?.message.contains("at byte 13.") == true)
        }
    }

    @Test func keysAreComparedByBytes() throws {
        // U+00E9 and U+0065 U+0301 are equal as Swift strings, and two different tokens.
        let composed = "\u{E9}"
        let decomposed = "e\u{301}"
        for filler in [0, 20] {
            let more = (0..<filler).map { ",\"k\($0)\":0" }.joined()
            let json = try parse("{\"\(composed)\":1,\"\(decomposed)\":2\(more)}")
            let object = try json.object(at: "x")
            #expect(object[composed] == 1)
            #expect(object[decomposed] == 2)
        }
    }

    @Test(arguments: [1, 8, 9, 16, 17, 33, 1000])
    func duplicatesAreFoundInObjectsOfEverySize(count: Int) {
        let keys = (0..<count).map { "\"key\($0)\":\($0)" }
        for repeated in Set([0, count / 2, count - 1]) {
            let text = "{" + (keys + ["\"key\(repeated)\":0"]).joined(separator: ",") + "}"
            let error = LatheFormatTests.error { () throws(LatheError) in _ = try parse(text) }
            #expect(error?.message.contains("\"key\(repeated)\" occurs twice") == true)
        }
    }

    @Test func depthIsLimited() throws {
        let fits = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
        #expect(try parse(fits).serialized() == fits)
        #expect(throws: LatheError.self) { try parse("[\(fits)]") }
        #expect(throws: LatheError.self) { try parse("[]", maximumDepth: 0) }
        #expect(try parse("1", maximumDepth: 0) == 1)
        let bomb = error { () throws(LatheError) in _ = try parse(String(repeating: "[", count: 100_000)) }
        #expect(bomb?.message.contains("nested more than 64 deep, at byte 64") == true)
        let objects = error { () throws(LatheError) in _ = try parse(String(repeating: "{\"a\":", count: 100_000)) }
        #expect(objects?.message.contains("nested more than 64 deep") == true)
    }

    @Test func valuesAreCounted() throws {
        let text = "[" + String(repeating: "{},", count: 98) + "0]"
        #expect(try JSON.parse(Array(text.utf8), source: "x", maximumValueCount: 100).array(at: "x").count == 99)
        let error = LatheFormatTests.error { () throws(LatheError) in
            _ = try JSON.parse(Array(text.utf8), source: "x", maximumValueCount: 99)
        }
        #expect(error?.message.contains("more than 99 values") == true)
    }

    // MARK: Files

    @Test func filesAreReadAndNamed() throws {
        let folder = try TemporaryFolder()
        #expect(try JSON.parse(path: folder.write(Array("{\"a\":1}".utf8), to: "config.json")) == ["a": 1])
        let pointer = try folder.write(Array("version https://git-lfs.github.com/spec/v1\n".utf8), to: "tokenizer.json")
        let error = LatheFormatTests.error { () throws(LatheError) in _ = try JSON.parse(path: pointer) }
        #expect(error?.message.contains("tokenizer.json\" is no JSON file: it is a Git LFS pointer") == true)
        #expect(throws: LatheError.self) { try JSON.parse(path: pointer, maximumByteCount: 10) }
        #expect(throws: LatheError.self) { try JSON.parse(path: folder.path("absent")) }
    }

    @Test(
        .enabled(if: sharedDataExists("gpt2-tokenizer/tokenizer.json"), "the tokenizers are not beside the package"),
        arguments: [("gpt2-tokenizer", 50_257), ("t5-tokenizer", 32_100)])
    func tokenizersOfOthers(folder: String, vocabulary: Int) throws {
        let json = try JSON.parse(path: "\(sharedData)/\(folder)/tokenizer.json")
        let model = try json.object(at: "tokenizer").object("model", in: "tokenizer")
        switch try model.value("vocab", in: "tokenizer") {
        case .object(let tokens): #expect(tokens.count == vocabulary)
        case .array(let pieces): #expect(pieces.count == vocabulary)
        default: Issue.record("the vocabulary is neither an object nor an array")
        }
        #expect(try JSON.parse(json.serializedBytes(), source: "x") == json)
    }

    // MARK: Size

    @Test func hundredThousandKeys() throws {
        let text = "{" + (0..<100_000).map { "\"token\($0)\":\($0)" }.joined(separator: ",") + "}"
        let object = try parse(text).object(at: "x")
        #expect(object.count == 100_000)
        for index in stride(from: 0, to: 100_000, by: 997) { #expect(object["token\(index)"] == .number(index)) }
        #expect(object["token100000"] == nil)
        #expect(object["toke"] == nil)
        #expect(JSON.object(object).serialized() == text)
    }

    @Test func tenMegabyteString() throws {
        let text = String(repeating: "naïve \\n", count: 1_250_000)
        guard case .string(let read) = try parse("\"\(text)\"") else { throw LatheError(.corrupt, "no string") }
        #expect(read.utf8.count == 1_250_000 * 8)
        // A message stays short however long the key in it.
        let key = String(repeating: "k", count: 1_000_000)
        let error = LatheFormatTests.error { () throws(LatheError) in _ = try parse("{\"\(key)\":1,\"\(key)\":2}") }
        #expect((error?.message.utf8.count ?? .max) < 600)
    }

    @Test func everyTruncationIsRefused() throws {
        let text = Array("{\"a\":[1.5e3,true,null],\"b\":{\"c\":\"\\ud83d\\ude00é\\n\"},\"d\":-0}".utf8)
        _ = try JSON.parse(text, source: "x")
        for length in 0..<text.count {
            #expect(throws: LatheError.self) { try JSON.parse(Array(text[..<length]), source: "x") }
        }
    }

    // MARK: Fields

    @Test func fieldsAreReadByType() throws {
        let text =
            #"{"i":7,"n":-3,"d":1.5,"s":"x","b":true,"a":[1],"o":{},"z":null,"big":9223372036854775807}"#
        let object = try parse(text).object(at: "t")
        #expect(try object.int("i", in: "t") == 7)
        #expect(try object.int("n", in: "t", minimum: -3) == -3)
        #expect(try object.int("big", in: "t") == Int.max)
        #expect(try object.double("d", in: "t") == 1.5)
        #expect(try object.double("i", in: "t") == 7)
        #expect(try object.string("s", in: "t") == "x")
        #expect(try object.bool("b", in: "t"))
        #expect(try object.array("a", in: "t") == [1])
        #expect(try object.object("o", in: "t").isEmpty)
        #expect(try object.intIfPresent("z", in: "t") == nil)
        #expect(try object.stringIfPresent("absent", in: "t") == nil)
        #expect(try object.boolIfPresent("b", in: "t") == true)
        let missing = error { () throws(LatheError) in _ = try object.int("z", in: "config.json") }
        #expect(missing == LatheError(.missing, "config.json: the field \"z\" is missing."))
        let mistyped = error { () throws(LatheError) in _ = try object.string("i", in: "config.json") }
        #expect(mistyped?.message == "config.json: the field \"i\" is the number 7; it must be a string.")
        #expect(throws: LatheError.self) { try object.boolIfPresent("s", in: "t") }
        #expect(throws: LatheError.self) { try object.array("o", in: "t") }
        #expect(throws: LatheError.self) { try object.object("a", in: "t") }
        #expect(throws: LatheError.self) { try object.double("s", in: "t") }
    }

    @Test(arguments: [
        "1e3", "-1", "1.0", "-0", "9223372036854775808", "18446744073709551616", "1.5", "\"1\"", "true", "[1]",
    ])
    func countsAreStrict(text: String) throws {
        let object = try parse("{\"n\":\(text)}").object(at: "t")
        let error = LatheFormatTests.error { () throws(LatheError) in _ = try object.int("n", in: "config.json") }
        #expect(error?.message.hasPrefix("config.json: the field \"n\" is ") == true)
    }

    @Test func doublesBeyondRangeAreRefused() throws {
        #expect(throws: LatheError.self) { try parse("1e999").double(at: "x") }
        #expect(try parse("1e-999").double(at: "x") == 0)
        #expect(try parse("-0").double(at: "x").sign == .minus)
    }

    // MARK: Writing

    @Test func writesCompactDeterministicJSON() throws {
        let json: JSON = [
            "b": [1, 2.5, nil, true], "a": .string("q\"\\\n\r\t\u{1}\u{8}é\u{1F600}"), "f": .number(Float(0.1)),
            "d": .number(0.1),
        ]
        let expected = #"{"b":[1,2.5,null,true],"a":"q\"\\\n\r\t\u0001\u0008é😀","f":0.1,"d":0.1}"#
        #expect(json.serialized() == expected)
        #expect(try parse(json.serialized()) == json)
    }

    @Test func floatsSurviveTheRoundTrip() throws {
        var generator = SplitMix64(seed: 7)
        var values: [Double] = [
            0, -0.0, .leastNonzeroMagnitude, .greatestFiniteMagnitude, .pi, 1e16, 1e-5, 123_456_789,
        ]
        for _ in 0..<2000 { values.append(Double(bitPattern: generator.next())) }
        for value in values where value.isFinite {
            #expect(try parse(JSON.number(value).serialized()).double(at: "x").bitPattern == value.bitPattern)
            let float = Float(value)
            guard float.isFinite else { continue }
            let read = Float(try parse(JSON.number(float).serialized()).double(at: "x"))
            #expect(read.bitPattern == float.bitPattern)
        }
    }

    /// Random single-byte changes: the parser either refuses or gives a value that writes and reads back as itself.
    @Test func mutationsNeverTrap() throws {
        let original = Array(#"{"a":[1,-2.5e3,true,false,null],"bé":{"c\u00e9\n":"\ud83d\ude00"},"d":[[],{},""]}"#.utf8)
        var generator = SplitMix64(seed: 42)
        var accepted = 0
        for _ in 0..<20_000 {
            var bytes = original
            for _ in 0...Int.random(in: 0..<3, using: &generator) {
                let index = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[index] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.remove(at: index)
                default: bytes.insert(original[Int.random(in: 0..<original.count, using: &generator)], at: index)
                }
            }
            guard let json = try? JSON.parse(bytes, source: "x") else { continue }
            accepted += 1
            #expect(try JSON.parse(json.serializedBytes(), source: "x") == json)
        }
        #expect(accepted > 100)
    }
}
