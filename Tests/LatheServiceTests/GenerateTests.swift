import Lathe
import LatheFormat
import Testing

@testable import LatheService

/// `POST /generate`: what a transformers pipeline behind a web API promised.
@Suite(.timeLimit(.minutes(5))) struct GenerateTests {
    private let prompt = "It was a dark and stormy night"

    @Test func continuesThePrompt() async throws {
        let fixture = try await ServiceFixture()
        let answer = try await fixture.post("/generate", ["prompt": .string(prompt), "max_new_tokens": 12])
        let ids = fixture.model.tokenizer!.encode(prompt)
        var options = GenerationOptions()
        options.maximumTokens = 12
        var text = ""
        let session = try Engine(model: fixture.model).makeSession()
        for try await token in try session.generate(ids, options: options) { text += token.text }
        #expect(answer.status == 200)
        #expect(answer.json["generated_text"] == .string(prompt + text))
        #expect(answer.json["finish_reason"] == "length")
        #expect(
            answer.json["usage"] == [
                "prompt_tokens": .number(ids.count), "completion_tokens": 12, "total_tokens": .number(ids.count + 12),
            ])
        #expect(answer.json["seed"]?.text == nil && answer.json["seed"] != nil)
    }

    @Test func maximumLengthCountsThePrompt() async throws {
        let fixture = try await ServiceFixture()
        let count = fixture.model.tokenizer!.encode(prompt).count
        let long = try await fixture.post("/generate", ["prompt": .string(prompt), "max_length": .number(count + 5)])
        let new = try await fixture.post("/generate", ["prompt": .string(prompt), "max_new_tokens": 5])
        #expect(long.json["generated_text"] == new.json["generated_text"])
        #expect(long.json["usage"]?["completion_tokens"] == 5)
        let short = try await fixture.post("/generate", ["prompt": .string(prompt), "max_length": .number(count)])
        #expect(short.status == 400 && short.error?["param"] == "max_length")
        let both = try await fixture.post(
            "/generate", ["prompt": .string(prompt), "max_length": 50, "max_new_tokens": 5])
        #expect(both.status == 400)
    }

    @Test func givesSixtyFourTokensOrWhatFits() async throws {
        let fixture = try await ServiceFixture()
        let body: JSON = ["prompt": .string(prompt), "ignore_eos": true]
        #expect(try await fixture.post("/generate", body).json["usage"]?["completion_tokens"] == 64)
        let small = try await ServiceFixture(context: 32)
        let count = fixture.model.tokenizer!.encode(prompt).count
        #expect(try await small.post("/generate", body).json["usage"]?["completion_tokens"] == .number(32 - count))
    }

    @Test func returnsTheContinuationAlone() async throws {
        let fixture = try await ServiceFixture()
        let body: JSON = ["prompt": .string(prompt), "max_new_tokens": 8]
        let full = try await fixture.post("/generate", body).json["generated_text"]?.text
        let rest = try await fixture.post("/generate", body.with([("return_full_text", false)]))
        #expect(full == prompt + (rest.json["generated_text"]?.text ?? "?"))
    }

    @Test func seedIsToldAndRepeats() async throws {
        let fixture = try await ServiceFixture()
        let body: JSON = ["prompt": .string(prompt), "max_new_tokens": 20, "temperature": 1.2]
        let drawn = try await fixture.post("/generate", body)
        let seed = try #require(drawn.json["seed"])
        let again = try await fixture.post("/generate", body.with([("seed", seed)]))
        #expect(again.json == drawn.json)
        let other = try await fixture.post("/generate", body.with([("seed", 1)]))
        #expect(other.json["generated_text"] != drawn.json["generated_text"])
    }

    @Test func streamIsTheDocumentInPieces() async throws {
        let fixture = try await ServiceFixture()
        let body: JSON = ["prompt": .string(prompt), "max_new_tokens": 40, "temperature": 0.9, "seed": 3]
        let whole = try await fixture.post("/generate", body)
        let events = try await fixture.events("/generate", body.with([("stream", true)]))
        let pieces = events.dropLast().compactMap { $0["text"]?.text }
        #expect(prompt + pieces.joined() == whole.json["generated_text"]?.text)
        #expect(events.last == whole.json)
        #expect(pieces.count > 10)
    }

    @Test func stopStringsCut() async throws {
        let fixture = try await ServiceFixture()
        let body: JSON = ["prompt": .string(prompt), "max_new_tokens": 30, "return_full_text": false]
        let whole = try #require(try await fixture.post("/generate", body).json["generated_text"]?.text)
        let stop = String(whole.dropFirst(9).prefix(4))
        let cut = try await fixture.post("/generate", body.with([("stop", .string(stop))]))
        #expect(cut.json["finish_reason"] == "stop")
        #expect(whole.hasPrefix(cut.json["generated_text"]!.text! + stop))
    }

    @Test func emptyPromptIsTheBeginningOfText() async throws {
        let fixture = try await ServiceFixture()
        let empty = try await fixture.post("/generate", ["prompt": "", "max_new_tokens": 6])
        let token = try await fixture.post(
            "/generate", ["prompt": [0], "max_new_tokens": 6, "return_full_text": false])
        #expect(empty.json["generated_text"] == token.json["generated_text"])
        #expect(empty.json["usage"]?["prompt_tokens"] == 1)
    }
}
