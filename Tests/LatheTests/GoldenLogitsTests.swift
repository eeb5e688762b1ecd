import Lathe
import LatheCompiler
import LatheFormat
import Testing

/// Lathe against transformers: the references of Tests/Golden, within the tolerance that its README states.
@Suite struct GoldenLogitsTests {
    static let models = TestModels.tiny + ["novelist"]

    @Test(arguments: models)
    func logitsAndLogProbabilities(model name: String) async throws {
        let reference = try GoldenReference(name)
        let engine = try Run(threads: 2).engine(TestModels.model(name))
        let (scores, logits) = try await engine.makeSession().logits(reference.ids)
        #expect(logits.count == reference.ids.count)

        let greatest = reference.logits.joined().reduce(0) { max($0, abs($1)) }
        for (position, expected) in zip(reference.positions, reference.logits) {
            #expect(logits[position].count == expected.count)
            let differences = zip(logits[position], expected).map { abs($0 - $1) }
            #expect(
                differences.allSatisfy { $0 <= 1e-4 * greatest },
                "position \(position): \(differences.max()!), largest logit \(greatest)")
        }

        #expect(scores.map(\.id) == reference.ids)
        #expect(scores[0].logProbability == nil)
        for (position, (score, expected)) in zip(scores, reference.logProbabilities).enumerated().dropFirst() {
            let difference = try #require(score.logProbability) - (try #require(expected))
            #expect(abs(difference) <= 1e-3, "position \(position)")
        }
    }

    @Test(arguments: models)
    func greedyContinuation(model name: String) async throws {
        let reference = try GoldenReference(name)
        let engine = try Run(threads: 2).engine(TestModels.model(name))
        let tokens = try await engine.makeSession().all(
            reference.promptIDs, GenerationOptions(reference.greedyIDs.count))
        #expect(tokens.map(\.id) == reference.greedyIDs)
        #expect(tokens.last?.finishReason == .length)
    }

    @Test(arguments: TestModels.tiny)
    func endOfTextAsTheCheckpointSays(model name: String) async throws {
        let reference = try #require(try GoldenReference(name).generated)
        let session = try Run().engine(TestModels.model(name)).makeSession()
        let options = GenerationOptions(16) { $0.ignoresEndOfText = false }
        let tokens = try await session.all(try GoldenReference(name).promptIDs, options)
        #expect(tokens.map(\.id) == reference.ids)
        #expect(tokens.last?.finishReason?.rawValue == reference.finishReason)
        #expect(tokens.dropLast().allSatisfy { $0.finishReason == nil })
    }

    /// int8 is not float32. What it costs on a trained model, in the measures that `evaluate` prints: the bounds
    /// stand a little beyond what was measured when they were set (3.5e-4 and 0.977), so that a regression is seen.
    @Test func int8StaysNearFloat32() async throws {
        let (mean, agreement) = try await distance(.int8, .float16)
        #expect(mean > 0 && mean < 5e-4, "mean KL \(mean)")
        #expect(agreement >= 0.965, "top-1 agreement \(agreement)")
    }

    /// The same of the cache alone, beside float32 weights.
    @Test func int8CacheStaysNearFloat32() async throws {
        let (mean, agreement) = try await distance(.float32, .int8)
        #expect(mean > 0 && mean < 1e-4, "mean KL \(mean)")
        #expect(agreement >= 0.99, "top-1 agreement \(agreement)")
    }

    /// Mean KL and top-1 agreement of the trained model's predictions with those of float32 weights and cache.
    private func distance(
        _ weights: WeightFormats, _ type: KeyValueType
    ) async throws -> (mean: Double, agreement: Double) {
        let tokens = try TestModels.tokens("novelist")
        let exact = try await Run(threads: 2).engine(TestModels.model("novelist")).makeSession().logits(tokens).logits
        let rounded = try await Run(threads: 2, keyValueType: type)
            .engine(TestModels.model("novelist", weights)).makeSession().logits(tokens).logits
        var divergence = 0.0
        var agreements = 0
        for (exact, rounded) in zip(exact, rounded) {
            let p = logSoftmax(exact)
            let q = logSoftmax(rounded)
            divergence += zip(p, q).reduce(0) { $0 + _exp($1.0) * ($1.0 - $1.1) }
            if greatestIndex(exact) == greatestIndex(rounded) { agreements += 1 }
        }
        return (divergence / Double(tokens.count), Double(agreements) / Double(tokens.count))
    }

    private func logSoftmax(_ logits: [Float]) -> [Double] {
        let best = Double(logits.max()!)
        let sum = logits.reduce(0) { $0 + _exp(Double($1) - best) }
        return logits.map { Double($0) - best - _log(sum) }
    }

    private func greatestIndex(_ logits: [Float]) -> Int { logits.indices.max { logits[$0] < logits[$1] }! }
}
