import LatheFormat
import Testing

@testable import Lathe

/// The text that comes with the tokens: whole characters, cut before stop strings, nothing lost.
@Suite struct TextTests {
    private func engine() throws -> Engine {
        try Run(threads: 2, keyValueType: .float16).engine(TestModels.model("novelist", .int8))
    }

    private func text(_ tokens: [GeneratedToken]) -> String { tokens.map(\.text).joined() }

    @Test func streamedTextIsTheDecodedText() async throws {
        let engine = try engine()
        let tokenizer = try #require(engine.model.tokenizer)
        let prompt = tokenizer.encode("The captain said")
        for (temperature, seed) in [(Float(0), UInt64(0)), (1, 1), (50, 2), (50, 3), (50, 4)] {
            // The hottest draws any token: halves of characters, control characters, special tokens.
            let tokens = try await engine.makeSession().all(
                prompt,
                GenerationOptions(60) {
                    $0.temperature = temperature
                    $0.seed = seed
                })
            let decoded = try tokenizer.decode(tokens.map(\.id))
            #expect(text(tokens) == decoded, "temperature \(temperature), seed \(seed)")
        }
    }

    @Test func stopStrings() async throws {
        let engine = try engine()
        let tokenizer = try #require(engine.model.tokenizer)
        let prompt = tokenizer.encode("It was a dark night, and")
        let free = try await engine.makeSession().all(prompt, GenerationOptions(40))
        let whole = Array(text(free))
        // Stop strings of every length at places that are no token's edges as well as at edges.
        for (start, length) in [(0, 1), (5, 1), (11, 2), (17, 9), (30, 25), (47, 3), (60, 14)] {
            let stop = String(whole[start..<start + length])
            let stopped = try await engine.makeSession().all(
                prompt, GenerationOptions(40) { $0.stop = [stop, "\u{1}never"] })
            let expected = String(whole).range(beforeFirst: stop)
            #expect(text(stopped) == expected, "\(stop)")
            #expect(stopped.last?.finishReason == .stop)
            #expect(stopped.map(\.id) == free.prefix(stopped.count).map(\.id))
            // It ended with the token that completed the string, not later.
            let before = try tokenizer.decode(stopped.dropLast().map(\.id))
            #expect(!before.contains(stop))
        }
        let missed = try await engine.makeSession().all(
            prompt, GenerationOptions(40) { $0.stop = [String(whole.suffix(3)) + "\u{1}"] })
        #expect(text(missed) == String(whole), "what was held back for a stop string that never came is given out")
        #expect(missed.last?.finishReason == .length)
    }

    @Test func withoutATokenizerTextIsEmpty() async throws {
        let tokens = try await Run().engine(TestModels.model("tiny-gpt2")).makeSession().all([1], GenerationOptions(5))
        #expect(tokens.allSatisfy { $0.text.isEmpty })
    }
}

extension String {
    /// What stands before the first occurrence of `pattern`.
    fileprivate func range(beforeFirst pattern: String) -> String {
        let (text, pattern) = (Array(utf8), Array(pattern.utf8))
        for start in 0...(text.count - pattern.count) where Array(text[start..<start + pattern.count]) == pattern {
            return String(decoding: text[..<start], as: UTF8.self)
        }
        return self
    }
}
