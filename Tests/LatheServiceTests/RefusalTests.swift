import LatheFormat
import Testing

@testable import LatheService

/// What is wrong with a request is said with the field that is wrong, status 400, and nothing runs (FAULTS 22, 24–30).
@Suite(.timeLimit(.minutes(5))) struct RefusalTests {
    @Test(arguments: [
        // Not JSON, or not an object.
        "", " ", "{", "[]", "3", "null", "\"text\"", "{\"prompt\":\"a\"", "{\"prompt\":\"a\"} x",
        "{\"prompt\":\"a\",\"prompt\":\"b\"}", "{'prompt':'a'}", "{\"prompt\":\"a\",}",
        // A lone surrogate; an unfinished escape.
        "{\"prompt\":\"\\ud800\"}", "{\"prompt\":\"\\udc00x\"}", "{\"prompt\":\"\\u12\"}",
        // Deep.
        String(repeating: "[", count: 100_000), "{\"prompt\":" + String(repeating: "[", count: 60) + "]}",
    ])
    func malformedBodies(body: String) async throws {
        let fixture = try await Self.fixture()
        for path in TextService.paths {
            let answer = try await fixture.post(path, bytes: Array(body.utf8))
            #expect(answer.status == 400 && answer.error?["type"] == "invalid_request_error", "\(path)")
        }
    }

    @Test(
        arguments: [[0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xE2, 0x82]] as [[UInt8]])
    func invalidUTF8(bytes: [UInt8]) async throws {
        let fixture = try await Self.fixture()
        let body = Array("{\"prompt\":\"".utf8) + bytes + Array("\"}".utf8)
        for path in ["/generate", "/v1/completions"] {
            #expect(try await fixture.post(path, bytes: body).status == 400)
        }
    }

    @Test(arguments: [
        ("temperature", "-0.1"), ("temperature", "1e400"), ("temperature", "\"NaN\""), ("temperature", "[]"),
        ("top_p", "0"), ("top_p", "-1"), ("top_p", "1.5"), ("min_p", "2"), ("top_k", "1.5"), ("top_k", "-2"),
        ("repetition_penalty", "0"), ("seed", "\"x\""), ("seed", "1e30"), ("seed", "0.5"),
        ("stop", "3"), ("stop", "[1]"), ("stop", "\"\""), ("stop", "[\"a\",\"\"]"), ("stream", "1"),
        ("ignore_eos", "\"yes\""), ("prompt", "null"), ("prompt", "3"), ("prompt", "{}"), ("prompt", "[[[1]]]"),
        ("prompt", "[1,\"a\"]"), ("prompt", "[-1]"), ("prompt", "[8192]"), ("prompt", "[99999999999]"),
        ("prompt", "[1e300]"), ("max_tonkens", "3"),
    ])
    func wrongFieldsOfBoth(name: String, value: String) async throws {
        let fixture = try await Self.fixture()
        for path in ["/generate", "/v1/completions"] {
            let answer = try await fixture.post(path, bytes: Self.body(name, value))
            #expect(answer.status == 400, "\(path) \(answer.json.serialized())")
            #expect(answer.error?["param"] == .string(name))
        }
    }

    @Test(arguments: [
        ("max_tokens", "0"), ("max_tokens", "-3"), ("max_tokens", "2147483648"), ("max_tokens", "1.5"),
        ("max_tokens", "\"3\""), ("n", "0"), ("n", "33"), ("logprobs", "-1"), ("logprobs", "21"), ("logprobs", "true"),
        ("echo", "1"), ("best_of", "2"), ("suffix", "\"x\""), ("logit_bias", "{\"1\":2}"), ("presence_penalty", "0.5"),
        ("frequency_penalty", "-1"), ("stream_options", "1"), ("stream_options", "{\"usage\":true}"),
        ("stream_options", "{\"include_usage\":1}"), ("prompt", "[]"), ("model", "3"), ("user", "3"),
    ])
    func wrongFieldsOfCompletions(name: String, value: String) async throws {
        let fixture = try await Self.fixture()
        let answer = try await fixture.post("/v1/completions", bytes: Self.body(name, value))
        #expect(answer.status == 400 && answer.error?["param"] == .string(name), "\(answer.json.serialized())")
    }

    @Test(arguments: [
        ("max_new_tokens", "0"), ("max_new_tokens", "-1"), ("max_new_tokens", "2147483648"), ("max_length", "0"),
        ("max_length", "1"), ("return_full_text", "0"), ("n", "2"), ("logprobs", "1"),
    ])
    func wrongFieldsOfGenerate(name: String, value: String) async throws {
        let fixture = try await Self.fixture()
        let answer = try await fixture.post("/generate", bytes: Self.body(name, value))
        #expect(answer.status == 400 && answer.error?["param"] == .string(name), "\(answer.json.serialized())")
    }

    @Test func contextIsRefusedWithTheCounts() async throws {
        let fixture = try await Self.fixture()
        let prompt = JSON.array(Array(repeating: 5, count: 100))
        for (path, field) in [("/generate", "max_new_tokens"), ("/v1/completions", "max_tokens")] {
            let answer = try await fixture.post(path, ["prompt": prompt, field: 29])
            let message = answer.error?["message"]?.text ?? ""
            #expect(answer.status == 400 && ["100", "29", "128"].allSatisfy { message.contains($0) }, "\(message)")
            #expect(try await fixture.post(path, ["prompt": prompt, field: 28]).status == 200)
        }
        let full = JSON.array(Array(repeating: 5, count: 128))
        #expect(try await fixture.post("/generate", ["prompt": full]).status == 400)
    }

    @Test func hundredThousandStopStrings() async throws {
        let fixture = try await Self.fixture()
        let stops = JSON.array((0..<50_000).map { .string("s\($0)") })
        let answer = try await fixture.post("/v1/completions", ["prompt": "a", "stop": stops])
        #expect(answer.status == 400 && answer.error?["param"] == "stop")
        // Beyond the number of values that any body may have.
        let more = JSON.array((0..<100_000).map { .string("s\($0)") })
        #expect(try await fixture.post("/v1/completions", ["prompt": "a", "stop": more]).status == 400)
    }

    @Test func otherModelsAndPaths() async throws {
        let fixture = try await Self.fixture()
        let answer = try await fixture.post("/v1/completions", ["prompt": "a", "model": "gpt-4", "max_tokens": 1])
        #expect(answer.status == 404 && answer.error?["code"] == "model_not_found")
        #expect(try await fixture.post("/v1/chat", ["prompt": "a"]).status == 404)
        let own = try await fixture.post(
            "/v1/completions", ["prompt": "a", "model": .string(ServiceFixture.modelName), "max_tokens": 1])
        #expect(own.status == 200)
    }

    @Test func megabyteOfOneCharacter() async throws {
        let fixture = try await Self.fixture()
        let text = String(repeating: "a", count: 1_000_000)
        let counted = try await fixture.post("/tokenize", ["prompt": .string(text)])
        #expect(counted.status == 200 && counted.json["count"]!.integer! > 1000)
        let refused = try await fixture.post("/generate", ["prompt": .string(text)])
        #expect(refused.status == 400)
        #expect(refused.error?["message"]?.text?.contains(String(counted.json["count"]!.integer!)) == true)
    }

    @Test func tokensAndTexts() async throws {
        let fixture = try await Self.fixture()
        let text = "Call me Ishmael. Été \u{1F600}"
        let tokenized = try await fixture.post("/tokenize", ["prompt": .string(text), "add_special_tokens": false])
        let ids = try #require(tokenized.json["tokens"])
        #expect(tokenized.json["count"]?.integer == ids.elements?.count && tokenized.json["max_model_len"] == 128)
        #expect(try await fixture.post("/detokenize", ["tokens": ids]).json == ["prompt": .string(text)])
        #expect(try await fixture.post("/detokenize", ["tokens": []]).json == ["prompt": ""])
        for body in [
            "{}", "{\"tokens\":3}", "{\"tokens\":[99999]}", "{\"tokens\":[\"a\"]}", "{\"tokens\":[1],\"x\":1}",
        ] {
            #expect(try await fixture.post("/detokenize", bytes: Array(body.utf8)).status == 400)
        }
        for body in ["{}", "{\"prompt\":3}", "{\"prompt\":\"a\",\"x\":1}"] {
            #expect(try await fixture.post("/tokenize", bytes: Array(body.utf8)).status == 400)
        }
    }

    private static func body(_ name: String, _ value: String) -> [UInt8] {
        let prompt = name == "prompt" ? "" : "\"prompt\":\"Once\","
        return Array("{\(prompt)\"\(name)\":\(value)}".utf8)
    }

    private static func fixture() async throws -> ServiceFixture { try await shared.value }
    private static let shared = Task { try await ServiceFixture() }
}
