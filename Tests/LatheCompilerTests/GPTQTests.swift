import LatheFormat
import Testing

@testable import LatheCompiler

@Suite(.enabled(if: (try? BLAS.load()) != nil, "no OpenBLAS here"))
struct GPTQTests {
    static let formats = [
        TensorFormat(.int8), TensorFormat(.int4, groupSize: 32), TensorFormat(.int4, groupSize: 64),
        TensorFormat(.int4, groupSize: 128),
    ]

    /// Every shape has inputs that are no multiple of a block or group, and one a second block.
    static let shapes: [(outputs: Int, inputs: Int)] = [(5, 8), (70, 40), (3, 150)]

    private func gptq(_ layer: CorrelatedLayer) throws -> GPTQ {
        try #require(try GPTQ(gram: layer.gram, blas: BLAS.load()))
    }

    private func rounded(_ layer: CorrelatedLayer, _ format: TensorFormat, importance: [Float]? = nil) throws
        -> EncodedMatrix
    {
        try EncodedMatrix(encoding: layer.weights, as: format, importance: importance, name: "w", threads: 1)
    }

    @Test(arguments: formats, shapes)
    func equalsTheMethodWrittenOutInFloat64(format: TensorFormat, shape: (outputs: Int, inputs: Int)) throws {
        let layer = CorrelatedLayer(outputs: shape.outputs, inputs: shape.inputs, rows: 400, seed: 7)
        let gptq = try gptq(layer)
        let grid = WeightGrid(of: try rounded(layer, format, importance: gptq.costs))
        let result = gptq.quantize(layer.weights, grid: grid, threads: 2)
        // With the multipliers that were chosen, so that a near tie between two of them is not taken for an error.
        let expected = StraightforwardOBQ(layer, grid: grid, multipliers: result.multipliers).values
        // float32 in place of float64 turns a rounding around where a weight lies within 1e-4 of the middle of a step,
        // and what follows in its row may differ then.
        let differing = (0..<shape.outputs).filter { row in
            let range = row * shape.inputs..<(row + 1) * shape.inputs
            return result.values[range] != expected[range]
        }
        #expect(differing.count <= max(1, shape.outputs / 20))
    }

    @Test(arguments: formats)
    func errsLessAtTheOutputThanRounding(format: TensorFormat) throws {
        let layer = CorrelatedLayer(outputs: 48, inputs: 200, rows: 1000, seed: 3)
        let nearest = layer.outputError(try rounded(layer, format).dequantized())
        let compensated = layer.outputError(
            try gptq(layer).encode(layer.weights, as: format, name: "w", threads: 1).dequantized())
        // Most of the inputs' variance is in two directions, in which errors can cancel out.
        #expect(compensated < 0.6 * nearest)
    }

    @Test(arguments: formats)
    func prunedWeightsStayZeroAndTheOthersAnswerForThem(format: TensorFormat) throws {
        var layer = CorrelatedLayer(outputs: 32, inputs: 96, rows: 500, seed: 5)
        layer.pruneEveryOther()
        let result = try gptq(layer).encode(layer.weights, as: format, name: "w", threads: 2).dequantized()
        for (weight, value) in zip(layer.weights.elements, result.elements) where weight == 0 { #expect(value == 0) }
        #expect(layer.outputError(result) < layer.outputError(try rounded(layer, format).dequantized()))
    }

    @Test func theNumberOfThreadsChangesNothing() throws {
        let layer = CorrelatedLayer(outputs: 150, inputs: 300, rows: 600, seed: 11)
        let gptq = try gptq(layer)
        let grid = WeightGrid(of: try rounded(layer, Self.formats[2], importance: gptq.costs))
        #expect(
            gptq.quantize(layer.weights, grid: grid, threads: 1)
                == gptq.quantize(layer.weights, grid: grid, threads: 3))
    }

    @Test func anInputThatIsAlwaysZeroIsNoObstacle() throws {
        var layer = CorrelatedLayer(outputs: 8, inputs: 64, rows: 300, seed: 2)
        layer.silence(input: 9)
        let result = try gptq(layer).encode(layer.weights, as: Self.formats[0], name: "w", threads: 1)
        #expect(layer.outputError(result.dequantized()).isFinite)
        #expect(try GPTQ(gram: [Double](repeating: 0, count: 64 * 64), blas: BLAS.load()) != nil)
        #expect(try GPTQ(gram: [.nan], blas: BLAS.load()) == nil)
    }

    @Test func aMultiplierServesTheLargerSideByItsSign() {
        let importance = [SIMD16<Float>](repeating: .init(repeating: 1), count: 2)
        func choice(_ weights: [Float], importance: [SIMD16<Float>]) -> (multiplier: Int8, error: Float) {
            let vectors = (0..<2).map { SIMD16<Float>.load(weights.span, from: $0 * 16, count: 16) }
            return Int4Multiplier.choose(vectors.span, importance: importance.span, scale: 1)
        }
        var weights = (0..<32).map { Float($0 % 8) * 3 }
        #expect(choice(weights, importance: importance) == (3, 0))
        weights[5] = -24
        #expect(choice(weights, importance: importance) == (3, 0))
        weights[5] = 24
        #expect(choice(weights, importance: importance) == (-3, 0))
        #expect(choice([Float](repeating: 0, count: 32), importance: importance) == (1, 0))
        // An error that costs nothing is no reason for a coarser step.
        weights[5] = 400
        var unequal = importance
        unequal[0][5] = 0
        #expect(choice(weights, importance: unequal) == (3, 0))
    }
}
