import Foundation
import LatheFormat
import Testing

/// Text and token ids as commands take them.
@Suite(.serialized) struct InputTests {
    @Test(arguments: ["He said\n", "", "  two  \r\n\n", "caf\u{E9} \u{1F600}\u{0}x", "\u{FEFF}mark"])
    func everyByteCounts(text: String) async throws {
        let model = try await Fixtures.novelistFile.path
        let folder = try Folder()
        let file = try folder.write(text, to: "text")
        let input = Array(text.utf8)
        let fromInput = try await CommandLineTool.run("tokenize", "--model", model, "--json", input: input).json()
        let fromFile = try await CommandLineTool.run("tokenize", "--model", model, "--json", "--file", file).json()
        #expect(fromFile == fromInput)
        let list = try fromInput.ints("ids").map(String.init).joined(separator: ",")
        let back = try await CommandLineTool.run("tokenize", "--model", model, "--json", "--decode", list).json()
        #expect(try back.string("text", in: "output").utf8.elementsEqual(input))
        let prompt = try await CommandLineTool.run(
            "generate", "--model", model, "-n", "1", "--json", input: input
        ).json()
        #expect(try prompt.ints("prompt_ids") == (text.isEmpty ? [0] : fromInput.ints("ids")))
    }

    @Test func invalidUTF8IsRefusedWithItsOffset() async throws {
        let model = try await Fixtures.novelistFile.path
        let folder = try Folder()
        let bytes: [UInt8] = Array("good ".utf8) + [0xE2, 0x82, 0x20]
        let file = try folder.write(bytes, to: "text")
        for arguments in [
            ["tokenize", "--model", model], ["tokenize", "--model", model, "--file", file],
            ["generate", "--model", model], ["score", "--model", model, "--file", file, "--json"],
        ] {
            try await CommandLineTool.start(arguments, input: bytes).outcome().expectFailure("UTF-8", "byte 5")
        }
        // An argument: by a shell, since no string of this language holds such bytes.
        let argument = try await CommandLineTool.run(
            "tokenize", "--model", model, preparation: "set -- \"$@\" \"$(printf 'good \\342\\202 ')\"")
        argument.expectFailure("Argument 4", "UTF-8", "byte 5")
    }

    @Test func anEmptyPromptIsTheBeginningOfText() async throws {
        let model = try await Fixtures.tinyFile.path
        let empty = try await CommandLineTool.run("generate", "--model", model, "--ids", "", "-n", "4", "--json").json()
        let bos = try await CommandLineTool.run("generate", "--model", model, "--ids", "99", "-n", "4", "--json").json()
        #expect(try empty.ints("ids") == bos.ints("ids"))
        // A model that names no such token says so.
        try await CommandLineTool.run("generate", "--model", Fixtures.odd, "--ids", "").expectFailure("empty")
    }

    @Test func withoutATokenizerIdsStandForText() async throws {
        let model = try await Fixtures.tinyFile.path
        let json = try await CommandLineTool.run("generate", "--model", model, "--ids", "1,2", "-n", "3", "--json")
            .json()
        #expect(json["text"] == .null)
        let ids = try json.ints("ids").map(String.init).joined(separator: ",")
        let plain = try await CommandLineTool.run("generate", "--model", model, "--ids", "1,2", "-n", "3")
        #expect(plain.text == ids + "\n")
        try await CommandLineTool.run("generate", "--model", model, "text").expectFailure(model, "tokenizer", "--ids")
        try await CommandLineTool.run("score", "--model", model, "--text", "text").expectFailure(model, "tokenizer")
        try await CommandLineTool.run("tokenize", "--model", model, "text").expectFailure(model, "tokenizer")
        try await CommandLineTool.run("tokenize", "--model", Fixtures.tiny, "text")
            .expectFailure(Fixtures.tiny, "tokenizer")
        try await CommandLineTool.run("generate", "--model", model, "--ids", "1", "--stop", "x")
            .expectFailure("tokenizer")
    }

    @Test(arguments: ["1,,2", "1 2", "x", "-1", "1,2,", "+1", "0x1", "99999999999", "1.5"])
    func listsThatAreNoIdsAreRefused(list: String) async throws {
        let model = try await Fixtures.tinyFile.path
        try await CommandLineTool.run("generate", "--model", model, "--ids=\(list)").expectFailure("token id")
    }

    @Test func idsOutsideTheVocabularyAreRefused() async throws {
        let tiny = try await Fixtures.tinyFile.path
        try await CommandLineTool.run("generate", "--model", tiny, "--ids", "101").expectFailure("101")
        try await CommandLineTool.run("score", "--model", tiny, "--ids", "1,2147483647").expectFailure("2147483647")
        let novelist = try await Fixtures.novelistFile.path
        try await CommandLineTool.run("tokenize", "--model", novelist, "--decode", "8192").expectFailure("8192", "8191")
    }

    @Test func stopStringsAreCutOff() async throws {
        let model = try await Fixtures.novelistFile.path
        let whole = try await CommandLineTool.run("generate", "--model", model, "He said", "-n", "12", "--json").json()
        let text = try whole.string("text", in: "output")
        let stop = String(Array(text)[4...6])
        let stopped = try await CommandLineTool.run(
            "generate", "--model", model, "He said", "-n", "12", "--json", "--stop", "not in it", "--stop", stop
        ).json()
        #expect(try stopped.string("finish_reason", in: "output") == "stop")
        let range = try #require(text.range(of: stop))
        #expect(try stopped.string("text", in: "output") == text[..<range.lowerBound])
        try await CommandLineTool.run("generate", "--model", model, "He said", "--stop", "").expectFailure("stop")
    }

    @Test func theSameSeedGivesTheSameText() async throws {
        let model = try await Fixtures.novelistFile.path
        func sample(_ seed: String) async throws -> [Int] {
            try await CommandLineTool.run(
                "generate", "--model", model, "He said", "-n", "24", "--temperature", "1.3", "--seed", seed, "--json"
            ).json().ints("ids")
        }
        let first = try await sample("7")
        #expect(try await sample("7") == first)
        #expect(try await sample("8") != first)
        // A seed drawn at random is printed and repeats the run.
        let drawn = try await CommandLineTool.run(
            "generate", "--model", model, "He said", "-n", "24", "--temperature", "1.3", "--json"
        ).json()
        guard case .number(let seed)? = drawn["seed"] else { return #expect(Bool(false), "no seed") }
        #expect(try await sample(seed) == drawn.ints("ids"))
    }

    @Test func endOfTextEndsTheText() async throws {
        let outcome = try await CommandLineTool.run(
            "generate", "--model", Fixtures.gelu, "--weights", "f32", "--ids",
            try promptOf(Fixtures.gelu), "-n", "16", "--json")
        let json = try outcome.json()
        #expect(try json.string("finish_reason", in: "output") == "end_of_text")
        let expected = try JSON.parse(path: "\(Fixtures.gelu)/expected/expected.json").object(at: "expected")
        #expect(try json.ints("ids") == expected.object("generated", in: "expected").ints("ids"))
    }

    private func promptOf(_ checkpoint: String) throws -> String {
        let expected = try JSON.parse(path: "\(checkpoint)/expected/expected.json").object(at: "expected")
        return try expected.ints("prompt_ids").map(String.init).joined(separator: ",")
    }

    @Test func whatIsLongerThanTheContextIsRefusedWithBothCounts() async throws {
        let model = try await Fixtures.tinyFile.path
        let ids = Array(repeating: "1", count: 65).joined(separator: ",")
        try await CommandLineTool.run("score", "--model", model, "--ids", ids, "--json").expectFailure("65", "64")
        try await CommandLineTool.run("generate", "--model", model, "--ids", ids, "-n", "1").expectFailure("65", "64")
        try await CommandLineTool.run("generate", "--model", model, "--ids", "1,2", "-n", "63")
            .expectFailure("2 prompt tokens", "63", "64")
        let fits = try await CommandLineTool.run(
            "generate", "--model", model, "--ids", "1,2", "-n", "62", "--json"
        ).json()
        #expect(try fits.ints("ids").count <= 62)
        let whole = Array(repeating: "1", count: 64).joined(separator: ",")
        #expect(try await CommandLineTool.run("score", "--model", model, "--ids", whole, "--json").json().count == 2)
    }

    @Test(arguments: [
        ["-n", "0"], ["-n", "2147483648"], ["-n", "9223372036854775807"], ["--temperature=-1"],
        ["--temperature", "nan"], ["--temperature", "inf"], ["--top-k", "0"], ["--top-p", "0"], ["--top-p", "1.5"],
        ["--min-p", "2"], ["--repetition-penalty", "0"], ["--prefill-chunk", "0"], ["--prefill-chunk=-5"],
        ["--threads", "0"], ["--threads", "1025"],
    ])
    func optionsOutOfRangeAreRefused(options: [String]) async throws {
        let model = try await Fixtures.tinyFile.path
        try await CommandLineTool.start(["generate", "--model", model, "--ids", "1"] + options).outcome()
            .expectFailure()
    }

    @Test(arguments: [
        ["--prompt-tokens", "9223372036854775807", "--new-tokens", "9223372036854775807"],
        ["--runs", "9223372036854775807"], ["--batch", "9223372036854775807"], ["--batch", "0"], ["--runs", "0"],
        ["--prompt-tokens", "64", "--new-tokens", "64"], ["--new-tokens", "1"],
    ])
    func benchmarksOutOfRangeAreRefused(options: [String]) async throws {
        let model = try await Fixtures.tinyFile.path
        let sizes = options.contains("--prompt-tokens") ? [] : ["--prompt-tokens", "8"]
        let new = options.contains("--new-tokens") ? [] : ["--new-tokens", "4"]
        try await CommandLineTool.start(["bench", "--model", model] + sizes + new + options).outcome().expectFailure()
    }

    @Test func aLongRunOfOneCharacterIsTokenizedSoon() async throws {
        let model = try await Fixtures.novelistFile.path
        for character in ["a", " ", "\n", "\u{E9}"] {
            let text = String(repeating: character, count: 1_000_000)
            let outcome = try await CommandLineTool.run("tokenize", "--model", model, input: Array(text.utf8))
            #expect(outcome.status == 0)
        }
    }
}
