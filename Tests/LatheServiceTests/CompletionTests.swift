import Lathe
import LatheFormat
import Testing

@testable import LatheService

/// `POST /v1/completions`, in OpenAI's shape.
@Suite(.timeLimit(.minutes(5))) struct CompletionTests {
    private let prompt = "It was a dark and stormy night"

    @Test func hasTheShape() async throws {
        let fixture = try await ServiceFixture()
        let answer = try await fixture.post(
            "/v1/completions", ["model": "novelist", "prompt": .string(prompt), "temperature": 0])
        #expect(answer.status == 200 && answer.json["object"] == "text_completion")
        #expect(answer.json["id"]?.text?.hasPrefix("cmpl-") == true && answer.json["created"]!.integer! > 1_700_000_000)
        let choice = try #require(answer.json["choices"]?[0])
        #expect(choice["index"] == 0 && choice["logprobs"] == .null && choice["finish_reason"] == "length")
        #expect(answer.json["usage"]?["completion_tokens"] == 16)
        let generated = try await fixture.post(
            "/generate", ["prompt": .string(prompt), "max_new_tokens": 16, "return_full_text": false])
        #expect(choice["text"] == generated.json["generated_text"])
    }

    @Test func everyKindOfPromptIsTheSame() async throws {
        let fixture = try await ServiceFixture()
        let ids = fixture.model.tokenizer!.encode(prompt).map { JSON.number($0) }
        func texts(_ prompt: JSON) async throws -> [JSON?] {
            let answer = try await fixture.post("/v1/completions", ["prompt": prompt, "temperature": 0])
            return (answer.json["choices"]?.elements ?? []).map { $0["text"] }
        }
        let text = try await texts(.string(prompt))
        #expect(text.count == 1 && text[0] != nil)
        #expect(try await texts(.array(ids)) == text)
        #expect(try await texts([.string(prompt), .string(prompt)]) == text + text)
        #expect(try await texts([.array(ids), .string(prompt), .array(ids)]) == text + text + text)
    }

    @Test func choicesFollowTheSeed() async throws {
        let fixture = try await ServiceFixture(sessions: 2)
        let body: JSON = ["prompt": [.string(prompt), "The sea"], "n": 3, "seed": 11, "max_tokens": 10]
        let answer = try await fixture.post("/v1/completions", body)
        let choices = try #require(answer.json["choices"]?.elements)
        #expect(choices.map { $0["index"] } == (0..<6).map { .number($0) })
        #expect(Set(choices.prefix(3).map { $0["text"] }).count == 3)
        #expect(try await fixture.post("/v1/completions", body).json["choices"] == answer.json["choices"])
        // A prompt counts once.
        let count = ["It was a dark and stormy night", "The sea"]
            .reduce(0) { $0 + fixture.model.tokenizer!.encode($1).count }
        #expect(answer.json["usage"]?["prompt_tokens"] == .number(count))
    }

    @Test func promptScoresAreTheEngines() async throws {
        let fixture = try await ServiceFixture()
        let text = "Call me Ishmael. Some years ago, never mind how long — precisely"
        let ids = fixture.model.tokenizer!.encode(text)
        let answer = try await fixture.post(
            "/v1/completions",
            ["prompt": .string(text), "echo": true, "max_tokens": 1, "logprobs": 3, "temperature": 0])
        let choice = try #require(answer.json["choices"]?[0])
        let scores = try await Engine(model: fixture.model).makeSession().score(ids, topCount: 3)
        let lists = try #require(choice["logprobs"])
        let own = try #require(lists["token_logprobs"]?.elements)
        #expect(own.count == ids.count + 1 && own[0] == .null && lists["top_logprobs"]![0] == .null)
        #expect(own.dropLast().map(\.float) == scores.map(\.logProbability))
        for (place, score) in scores.enumerated().dropFirst() {
            let token = try #require(lists["tokens"]![place]?.text)
            let top = try #require(lists["top_logprobs"]![place])
            // The same digits, so that whoever compares finds them equal.
            #expect(top[token] == own[place])
            #expect(score.topLogProbabilities.allSatisfy { top[self.text($0.id, fixture)] != nil })
        }
        let greedy = try #require(lists["top_logprobs"]![ids.count]?[lists["tokens"]![ids.count]!.text!]?.float)
        if case .object(let last) = lists["top_logprobs"]![ids.count]! {
            #expect(last.members.allSatisfy { $0.value.float! <= greedy })
        }
        // Offsets cut the text into its tokens, here where every token is whole.
        let full = try #require(choice["text"]?.text)
        #expect(full.hasPrefix(text))
        let scalars = Array(full.unicodeScalars)
        let offsets = try #require(lists["text_offset"]?.elements?.map { $0.integer! })
        for (place, offset) in offsets.enumerated() {
            let end = place + 1 < offsets.count ? offsets[place + 1] : scalars.count
            let token = lists["tokens"]![place]!.text!
            if !token.hasPrefix("bytes:") {
                #expect(String(String.UnicodeScalarView(scalars[offset..<end])) == token)
            }
        }
    }

    private func text(_ id: Int32, _ fixture: ServiceFixture) -> String {
        TokenTexts(tokenizer: fixture.model.tokenizer).text(id)
    }

    @Test func tokensThatAreNoText() async throws {
        let fixture = try await ServiceFixture()
        let texts = TokenTexts(tokenizer: fixture.model.tokenizer)
        let ids = fixture.model.tokenizer!.encode("\u{1F600}")
        let names = ids.map(texts.text)
        #expect(names.count > 1 && names.allSatisfy { $0.hasPrefix("bytes:\\x") })
        #expect(ids.reduce(0) { $0 + texts.scalarCount($1) } == 1)
        #expect(TokenTexts(tokenizer: nil).text(3) == "token:3")
    }

    @Test(arguments: [JSON.null, 0, 2], [false, true])
    func streamIsTheDocumentInPieces(logprobs: JSON, echo: Bool) async throws {
        let fixture = try await ServiceFixture()
        let body: JSON = [
            "prompt": [.string(prompt), "The sea"], "n": 2, "seed": 4, "max_tokens": 20, "temperature": 0.9,
            "logprobs": logprobs, "echo": .bool(echo),
        ]
        let whole = try await fixture.post("/v1/completions", body)
        let events = try await fixture.events(
            "/v1/completions", body.with([("stream", true), ("stream_options", ["include_usage": true])]))
        #expect(events.last?["usage"] == whole.json["usage"] && events.last?["choices"] == [])
        #expect(Set(events.map { $0["id"] }).count == 1)
        for index in 0..<4 {
            let pieces = events.compactMap { $0["choices"]?[0] }.filter { $0["index"] == .number(index) }
            let choice = try #require(whole.json["choices"]?[index])
            #expect(pieces.compactMap { $0["text"]?.text }.joined() == choice["text"]?.text)
            #expect(pieces.last?["finish_reason"] == choice["finish_reason"])
            #expect(pieces.dropLast().allSatisfy { $0["finish_reason"] == .null })
            for key in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
                let joined = pieces.flatMap { $0["logprobs"]?[key]?.elements ?? [] }
                #expect(joined == choice["logprobs"]?[key]?.elements ?? [], "\(key)")
            }
        }
    }

    @Test func neutralFieldsPass() async throws {
        let fixture = try await ServiceFixture()
        let answer = try await fixture.post(
            "/v1/completions",
            [
                "prompt": "Once", "max_tokens": 2, "best_of": 1, "n": 1, "suffix": .null, "logit_bias": [:],
                "user": "u",
                "presence_penalty": 0, "frequency_penalty": 0.0, "top_p": 1, "top_k": -1, "stop": .null,
                "stream": false, "logprobs": .null, "echo": false, "model": "novelist",
            ])
        #expect(answer.status == 200, "\(answer.json.serialized())")
    }
}
