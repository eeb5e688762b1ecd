import LatheFormat
import Testing

@testable import Lathe

/// A model whose token 3 has an embedding so large that the sums overflow: a request that meets it fails, its neighbours
/// do not notice.
@Suite struct NotFiniteTests {
    static func poisoned(_ encoding: WeightEncoding) throws -> Model {
        var m = HandMadeModel(encoding: encoding)
        let x = m.embed()
        let wide = m.linear(m.layerNorm(x), to: 30)
        let attended = m.attention(m.slice(wide, 0, 10), m.slice(wide, 10, 10), m.slice(wide, 20, 10))
        m.head(m.layerNorm(m.add(m.linear(attended, to: 10), x)))
        for k in 0..<10 { m.weights["p0"]![3 * 10 + k] = k % 2 == 0 ? 3e38 : 2e38 }
        return try m.model()
    }

    private let healthy: [Int32] = [1, 2, 4, 5, 6, 7, 8, 9]

    @Test(arguments: [WeightEncoding.panels, .qc8w], InstructionSet.available.map(\.name))
    func onlyItsRequestFails(encoding: WeightEncoding, level: String) async throws {
        let model = try Self.poisoned(encoding)
        let run = Run(instructionSet: level, threads: 2, chunk: 3, sessions: 4)
        let alone = try await run.engine(model).logitBits(healthy)
        let options = GenerationOptions(30) {
            $0.topLogProbabilities = 2
            $0.temperature = 0.7
            $0.seed = 1
        }
        // Token 3 must not be drawn by the healthy neighbour: greedy on this model never does, which the first line checks.
        let greedy = GenerationOptions(30) { $0.topLogProbabilities = 2 }
        let generatedAlone = try await run.engine(model).makeSession().all(healthy, greedy)
        try #require(!generatedAlone.map(\.id).contains(3))

        let engine = try run.engine(model)
        async let neighbour = engine.makeSession().all(healthy, greedy)
        async let scored = engine.logitBits(healthy)
        for prompt: [Int32] in [[3], [1, 3], [1, 2, 5, 8, 3, 1, 1]] {
            for options in [options, greedy] {
                let error = await #expect(throws: LatheError.self) {
                    try await engine.makeSession().all(prompt, options)
                }
                #expect(error?.code == .notFinite)
            }
            let error = await #expect(throws: LatheError.self) { try await engine.makeSession().score(prompt + [1]) }
            #expect(error?.code == .notFinite)
        }
        #expect(try await neighbour == generatedAlone)
        #expect(firstDifference(try await scored, alone) == nil)
        // The blocks that held what is not finite are used again, and leave no trace.
        #expect(firstDifference(try await engine.logitBits(healthy), alone) == nil)
    }

    /// The tail of a text may be scored before the bad token is met; its logits, had anyone asked for them, may not.
    @Test func scoringMeetsItAtTheEnd() async throws {
        let model = try Self.poisoned(.panels)
        #expect(try await Run().engine(model).makeSession().score([1, 2, 3]).count == 3)
        let error = await #expect(throws: LatheError.self) {
            try await Run().engine(model).makeSession().logits([1, 2, 3])
        }
        #expect(error?.code == .notFinite)
    }

    @Test func sessionAfterwards() async throws {
        let engine = try Run().engine(try Self.poisoned(.panels))
        let session = try engine.makeSession()
        await #expect(throws: LatheError.self) { try await session.all([1, 3], GenerationOptions(2)) }
        // The timeline holds a token that poisons it for good: it fails again, and does not hang.
        await #expect(throws: LatheError.self) { try await session.all([1], GenerationOptions(2)) }
    }
}
