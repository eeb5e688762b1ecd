import CKernels
import Testing

/// The linear layer with 16-bit activations: two int8 products and their sum, against exact integers.
@Suite struct LinearQD16Tests {
    struct Problem {
        var rows: Int
        var columns: Int
        var depth: Int
        var hasBias: Bool
    }

    static let problems = [
        Problem(rows: 1, columns: 1, depth: 1, hasBias: false),
        Problem(rows: 1, columns: 1600, depth: 65, hasBias: true),
        Problem(rows: 2, columns: 33, depth: 64, hasBias: true),
        Problem(rows: 3, columns: 1537, depth: 17, hasBias: false),
        Problem(rows: 9, columns: 3100, depth: 40, hasBias: true),
        Problem(rows: 17, columns: 50, depth: 130, hasBias: true),
    ]

    /// The sets of features that this machine has kernels for.
    static let levels: [String] = {
        var count = 0
        let levels = lathe_isa_levels(&count)
        return UnsafeBufferPointer(start: levels, count: count).map { String(cString: $0.name) }
    }()

    private func features(_ name: String) throws -> UInt32 {
        let level = lathe_isa_named(name)!.pointee
        try requireFeatures(level.required, of: name)
        return level.allowed & lathe_cpu_features()
    }

    private struct Data {
        var x: [Float]
        var values: [Int8]
        var scales: [Float]
        var sums: [Int32]
        var bias: [Float]

        init(_ problem: Problem) {
            var generator = SeededGenerator(seed: UInt64(problem.columns))
            x = TestData.outliers.floats(problem.rows * problem.depth, using: &generator)
            let padded = (problem.columns + 15) / 16 * 16
            let weights = generator.floats(problem.columns * problem.depth, in: -1...1)
            values = [Int8](repeating: 0, count: lathe_qc8w_bytes(problem.columns, problem.depth))
            scales = [Float](repeating: 0, count: padded)
            sums = [Int32](repeating: 0, count: padded)
            lathe_pack_qc8w(
                weights, problem.depth * 4, 4, problem.columns, problem.depth, &values, &scales, &sums)
            bias = generator.floats(padded, in: -3...3)
        }
    }

    /// Computes panels `cuts[0] ..< cuts[1]`, `cuts[1] ..< cuts[2]` … one after the other, as threads would.
    private func run(_ problem: Problem, _ data: Data, features: UInt32, cuts: [Int]) -> [Float] {
        let quantize = lathe_quantize_select(features)!.pointee
        let choice = lathe_linear_qd8_choose(LATHE_QC8W, features, 2 * problem.rows)
        let isWide = choice.kernel.pointee.storage == LATHE_ACTIVATIONS_I16_CENTERED
        let stride = (problem.depth + 63) / 64 * 64 * (isWide ? 2 : 1)
        let x = GuardedBuffer(data.x)
        let activations = GuardedBuffer(bytes: 2 * problem.rows * stride, alignment: 64)
        let quantization = GuardedBuffer(bytes: 2 * problem.rows * 8)
        let rowScales = GuardedBuffer(bytes: problem.rows * 4)
        (isWide ? quantize.halves_to_storage.1 : quantize.halves_to_storage.0)!(
            x.pointer(), problem.depth * 4, problem.rows, problem.depth, rowScales.pointer(), quantization.pointer(),
            activations.base, stride)
        let values = GuardedBuffer(data.values, alignment: 64)
        let scales = GuardedBuffer(data.scales, alignment: 64)
        let sums = GuardedBuffer(data.sums, alignment: 64)
        let bias = GuardedBuffer(data.bias, alignment: 64)
        let scratch = GuardedBuffer(bytes: lathe_linear_qd16_scratch_floats() * 4, alignment: 64)
        let output = GuardedBuffer(bytes: problem.rows * problem.columns * 4)
        var weights = lathe_weights()
        (weights.columns, weights.depth) = (problem.columns, problem.depth)
        weights.values = UnsafeRawPointer(values.base)
        weights.scales = UnsafePointer(scales.pointer(to: Float.self))
        weights.column_sums = UnsafePointer(sums.pointer(to: Int32.self))
        withUnsafePointer(to: weights) { weights in
            var operation = lathe_linear_qd16()
            operation.rows = problem.rows
            operation.activations = UnsafeRawPointer(activations.base)
            operation.activation_stride_bytes = stride
            operation.quantization = UnsafePointer(quantization.pointer(to: lathe_row_quantization.self))
            operation.activation_scales = UnsafePointer(rowScales.pointer(to: Float.self))
            operation.weights = weights
            operation.bias = problem.hasBias ? UnsafePointer(bias.pointer(to: Float.self)) : nil
            operation.output = output.pointer()
            operation.output_stride_bytes = problem.columns * 4
            for (begin, end) in zip(cuts, cuts.dropFirst()) {
                lathe_linear_qd16_run(
                    choice, lathe_vector_select(features), &operation, begin, end, nil, scratch.pointer())
            }
        }
        return output.array()
    }

    @Test(arguments: levels)
    func sameBitsOnEveryLevelAndInAnyParts(level: String) throws {
        let features = try features(level)
        for problem in Self.problems {
            let data = Data(problem)
            let panels = (problem.columns + 15) / 16
            let expected = run(problem, data, features: 0, cuts: [0, panels])
            for cuts in [[0, panels], [0, panels / 3, panels], [0, 1, min(5, panels), panels]] {
                #expect(
                    run(problem, data, features: features, cuts: cuts).bits == expected.bits, "\(problem), \(cuts)")
            }
        }
    }

    /// The definition against exact integers and float64: three roundings on the way, and the two of the halves.
    @Test func definitionIsTheMathematics() {
        for problem in Self.problems {
            let data = Data(problem)
            let y = run(problem, data, features: 0, cuts: [0, (problem.columns + 15) / 16])
            let depth = problem.depth
            let padded = (depth + 63) / 64 * 64
            for row in 0..<problem.rows {
                let x = data.x[row * depth..<(row + 1) * depth]
                let (low, high) = (min(0, x.min()!), max(0, x.max()!))
                let scale = (high - low) / 65535
                let inverse = 65535 / (high - low)
                let zero = max(0, min(65535, (-low * inverse).rounded(.toNearestOrEven)))
                let q = x.map {
                    Int(max(0, min(65535, zero.addingProduct($0, inverse).rounded(.toNearestOrEven))))
                }
                for column in stride(from: 0, to: problem.columns, by: 7) {
                    var sum = 0
                    for k in 0..<depth {
                        let index =
                            (column / 16 * (padded / 64) + k / 64) * 1024 + k % 64 / 4 * 64 + column % 16 * 4 + k % 4
                        sum += (q[k] - Int(zero)) * Int(data.values[index])
                    }
                    let exact =
                        Double(sum) * Double(scale) * Double(data.scales[column])
                        + (problem.hasBias ? Double(data.bias[column]) : 0)
                    let magnitude = Double(scale) * Double(data.scales[column]) * 65535 * 127 * Double(depth)
                    #expect(
                        abs(Double(y[row * problem.columns + column]) - exact) <= 2e-7 * abs(exact) + 1e-7 * magnitude)
                }
            }
        }
    }
}
