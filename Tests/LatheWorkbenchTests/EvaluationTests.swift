import Foundation
import Lathe
import LatheCompiler
import LatheFormat
import Testing

@testable import LatheWorkbench

/// On the trained model and text that it was not trained on.
@Suite(.serialized) struct EvaluationTests {
    static let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
    static let novelist = "\(package)/models/novelist"
    static let heldout = "\(package)/Tests/Golden/novelist/heldout.txt"
    /// What the reference needs.
    static let hasOpenBLAS = (try? EvaluationReference(checkpoint: novelist, threads: 1)) != nil

    static func model(_ weights: WeightFormats) throws -> Model {
        try ModelLoading.load(path: novelist, weights: weights, threads: 1, verify: true)
    }

    static func text(_ model: Model, tokens: Int? = nil) throws -> EvaluationText {
        try EvaluationText(
            try Files.read(heldout).array(), tokenizer: try #require(model.tokenizer), source: heldout,
            maximumTokens: tokens)
    }

    static func evaluation(
        length: Int? = nil, stride: Int? = nil, threads: Int = 2, chunk: Int = 256
    ) throws -> Evaluation {
        var options = EngineOptions()
        options.threads = threads
        options.prefillChunk = chunk
        return Evaluation(
            windows: try EvaluationWindows(length: length, stride: stride, contextLength: 512), options: options)
    }

    /// The witness cut the text into windows of 512 without overlap: see Tests/Golden/README.md.
    @Test func perplexityIsTheWitness() async throws {
        let path = "\(Self.package)/Tests/Golden/novelist/heldout.json"
        let expected = try JSON.parse(path: path).object(at: path)
        let model = try Self.model(.float32)
        let text = try Self.text(model)
        var fractions: [Double] = []
        let result = try await Self.evaluation(length: 512, stride: 512).measure(model, on: text) {
            fractions.append($0)
        }
        #expect(text.tokens.count == (try expected.int("tokens", in: path)))
        #expect(result.tokens == (try expected.int("predictions", in: path)))
        let perplexity = try expected.double("perplexity", in: path)
        #expect(abs(result.perplexity / perplexity - 1) < 1e-5)
        // Each window's first token is not charged for, and its bytes are not counted.
        let bytes = try expected.int("bytes", in: path)
        let bits = log2(perplexity) * Double(result.tokens) / result.bitsPerByte
        #expect(bits < Double(bytes) && bits > 0.99 * Double(bytes))
        #expect(result.standardError > 0.01 * perplexity && result.standardError < 0.05 * perplexity)
        #expect(fractions.last == 1 && fractions == fractions.sorted())
    }

    /// Neither threads nor chunks nor how many windows go together change a digit.
    @Test func isTheSameHoweverItIsRun() async throws {
        let model = try Self.model(.int8)
        let text = try Self.text(model, tokens: 700)
        let expected = try await Self.evaluation(length: 64, stride: 24).measure(model, on: text)
        #expect(expected.tokens == 699)
        for (threads, chunk) in [(1, 1000), (2, 7), (1, 64)] {
            let result = try await Self.evaluation(length: 64, stride: 24, threads: threads, chunk: chunk).measure(
                model, on: text)
            #expect(result.perplexity == expected.perplexity && result.standardError == expected.standardError)
        }
        // The same from one window after the other, by `score`.
        let engine = try Engine(model: model)
        var sum = 0.0
        for window in try EvaluationWindows(length: 64, stride: 24, contextLength: 512).windows(ofTokens: 700) {
            let scores = try await engine.makeSession().score(Array(text.tokens[window.tokens]))
            sum -= scores[window.firstCounted...].reduce(0) { $0 + Double($1.logProbability!) }
        }
        #expect(abs(exp(sum / 699) / expected.perplexity - 1) < 1e-12)
    }

    @Test(.enabled(if: hasOpenBLAS, "no OpenBLAS here")) func comparison() async throws {
        let reference = try EvaluationReference(checkpoint: Self.novelist, threads: 2)
        let evaluation = try Self.evaluation(length: 256)
        var divergences: [Double] = []
        for weights in [WeightFormats.float32, .int8] {
            let model = try Self.model(weights)
            let text = try Self.text(model, tokens: 900)
            let alone = try await evaluation.measure(model, on: text)
            let result = try await evaluation.measure(model, on: text, against: reference)
            #expect(result.perplexity == alone.perplexity && alone.comparison == nil)
            let comparison = try #require(result.comparison)
            #expect((1..<900).contains(comparison.worstToken))
            #expect(comparison.worstDivergence >= comparison.meanDivergence)
            #expect(comparison.increaseError < 0.1 * result.standardError / result.perplexity)
            divergences.append(comparison.meanDivergence)
            switch weights {
            case .float32:
                #expect(abs(comparison.perplexity / result.perplexity - 1) < 1e-5)
                #expect(comparison.meanDivergence < 1e-9 && comparison.top1Agreement > 0.999)
                #expect(comparison.rmsProbabilityDifference < 1e-5)
            default:
                #expect(abs(comparison.perplexity / result.perplexity - 1) < 0.01)
                #expect((1e-5..<1e-2).contains(comparison.meanDivergence))
                #expect((0.9..<1).contains(comparison.top1Agreement))
            }
        }
        #expect(divergences[0] < divergences[1])
    }

    @Test(.enabled(if: hasOpenBLAS, "no OpenBLAS here")) func otherVocabularyIsRefused() async throws {
        let model = try Self.model(.int8)
        let reference = try EvaluationReference(checkpoint: "\(Self.package)/Tests/Golden/tiny-gpt2", threads: 1)
        let text = try Self.text(model, tokens: 10)
        let error = await #expect(throws: LatheError.self) {
            try await Self.evaluation(length: 32).measure(model, on: text, against: reference)
        }
        #expect(error?.message.contains("101") == true && error?.message.contains("8192") == true)
    }

    @Test func textsTooShort() throws {
        let tokenizer = try #require(try Self.model(.int8).tokenizer)
        for bytes in [[], Array(" a".utf8)] {
            let error = #expect(throws: LatheError.self) {
                try EvaluationText(bytes, tokenizer: tokenizer, source: "some.txt")
            }
            #expect(error?.code == .invalidRequest && error?.message.contains("some.txt") == true)
        }
    }
}
