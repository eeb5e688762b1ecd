import Lathe
import LatheCompiler
import LatheFormat
import TestSupport
import Testing

/// The logits of the test models as committed digests: a change of any bit, on any machine, is seen.
@Suite struct ModelDigestTests {
    static let golden = GoldenDigests("models")

    private func cases() -> [(key: String, model: String, weights: WeightFormats, type: KeyValueType)] {
        (TestModels.tiny + ["novelist"]).flatMap { name in
            [WeightFormats.int8, .int4, .float32].flatMap { weights in
                KeyValueType.allCases.map { ("\(name) \(weights), KV \($0.rawValue)", name, weights, $0) }
            }
        }
    }

    private func digest(_ name: String, _ weights: WeightFormats, _ type: KeyValueType) async throws -> String {
        let bits = try await Run(threads: 2, keyValueType: type).engine(TestModels.model(name, weights))
            .logitBits(TestModels.tokens(name))
        return GoldenDigests.digest(bits.flatMap { $0 })
    }

    @Test func logitsAreTheCommittedOnes() async throws {
        var found: [(key: String, digest: String)] = []
        for (key, model, weights, type) in cases() { found.append((key, try await digest(model, weights, type))) }
        if GoldenDigests.isRegenerating {
            try Self.golden.write(found)
            Issue.record("\(Self.golden.path) was written anew; run the tests again without LATHE_REGENERATE_GOLDEN.")
            return
        }
        let expected = try Self.golden.load()
        #expect(Set(found.map(\.key)) == Set(expected.keys))
        for (key, digest) in found { #expect(digest == expected[key], "\(key)") }
    }
}
