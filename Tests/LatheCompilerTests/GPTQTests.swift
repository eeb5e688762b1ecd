import LatheFormat
import Testing

@testable import LatheCompiler

@Suite("GPTQ")
struct GPTQTests {
    static let grids: [(name: String, groupSize: Int?)] = [
        ("int8", nil), ("int4 g32", 32), ("int4 g64", 64), ("int4 g128", 128),
    ]

    /// Every shape has inputs that are no multiple of a block or group, and one a second block.
    static let shapes: [(outputs: Int, inputs: Int)] = [(5, 8), (70, 40), (3, 150)]

    @Test(.openBLAS, arguments: grids, shapes)
    func `equals the method written out in float64`(
        grid: (name: String, groupSize: Int?), shape: (outputs: Int, inputs: Int)
    ) throws {
        let problem = CorrelatedLayer(outputs: shape.outputs, inputs: shape.inputs, rows: 400, seed: 7)
        let gptq = try #require(try GPTQ(gram: problem.gram, blas: BLAS.load()))
        let grid = problem.grid(grid.groupSize, importance: gptq.costs)
        let result = gptq.quantize(problem.weights, grid: grid, threads: 2)
        // Its own multipliers, so that a near tie between two of them is not taken for an error.
        let expected = StraightforwardOBQ(problem, grid: grid, multipliers: result.multipliers).values
        // float32 in place of float64 turns a rounding around where a weight lies within 1e-4 of the middle of a step,
        // and what follows in its row may differ then.
        let differing = (0..<shape.outputs).filter { row in
            let range = row * shape.inputs..<(row + 1) * shape.inputs
            return result.values[range] != expected[range]
        }
        #expect(differing.count <= max(1, shape.outputs / 20))
        #expect(result.scales == grid.scales)
    }

    @Test(.openBLAS, arguments: grids)
    func `errs less at the layer's output than rounding to nearest`(grid: (name: String, groupSize: Int?)) throws {
        let problem = CorrelatedLayer(outputs: 48, inputs: 200, rows: 1000, seed: 3)
        let gptq = try #require(try GPTQ(gram: problem.gram, blas: BLAS.load()))
        let plain = problem.grid(grid.groupSize, importance: [Float](repeating: 1, count: 200))
        let nearest = problem.outputError(plain.rounded(problem.weights).dequantized)
        let compensated = problem.outputError(
            gptq.quantize(
                problem.weights, grid: problem.grid(grid.groupSize, importance: gptq.costs), threads: 1
            ).dequantized)
        // 0.1 % of variance is common to all inputs twice over: far less than the half is reached by any right method.
        #expect(compensated < 0.6 * nearest)
    }

    @Test(.openBLAS, arguments: grids)
    func `pruned weights stay zero and the others answer for them`(grid: (name: String, groupSize: Int?)) throws {
        var problem = CorrelatedLayer(outputs: 32, inputs: 96, rows: 500, seed: 5)
        problem.prune(everyOther: true)
        let gptq = try #require(try GPTQ(gram: problem.gram, blas: BLAS.load()))
        let plain = problem.grid(grid.groupSize, importance: [Float](repeating: 1, count: 96))
        let result = gptq.quantize(
            problem.weights, grid: problem.grid(grid.groupSize, importance: gptq.costs), threads: 2)
        for (weight, value) in zip(problem.weights.elements, result.values) where weight == 0 { #expect(value == 0) }
        #expect(
            problem.outputError(result.dequantized) < problem.outputError(plain.rounded(problem.weights).dequantized))
    }

    @Test(.openBLAS)
    func `the number of threads changes nothing`() throws {
        let problem = CorrelatedLayer(outputs: 150, inputs: 300, rows: 600, seed: 11)
        let gptq = try #require(try GPTQ(gram: problem.gram, blas: BLAS.load()))
        let grid = problem.grid(64, importance: gptq.costs)
        #expect(
            gptq.quantize(problem.weights, grid: grid, threads: 1)
                == gptq.quantize(problem.weights, grid: grid, threads: 3))
    }

    @Test(.openBLAS)
    func `an input that is always zero is no obstacle`() throws {
        var problem = CorrelatedLayer(outputs: 8, inputs: 64, rows: 300, seed: 2)
        problem.silence(input: 9)
        let gptq = try #require(try GPTQ(gram: problem.gram, blas: BLAS.load()))
        let result = gptq.quantize(problem.weights, grid: .int8(problem.weights), threads: 1)
        #expect(problem.outputError(result.dequantized).isFinite)
        #expect(try GPTQ(gram: [Double](repeating: 0, count: 64 * 64), blas: BLAS.load()) != nil)
        #expect(try GPTQ(gram: [.nan], blas: BLAS.load()) == nil)
    }

    @Test
    func `a multiplier serves the larger side by its sign`() {
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
