import CKernels
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

enum LinearF32Kernels {
    static var table: [lathe_linear_f32_kernel] {
        var count = 0
        let kernels = lathe_linear_f32_kernels(&count)
        return Array(UnsafeBufferPointer(start: kernels, count: count))
    }
    static var definition: lathe_linear_f32_kernel { table[0] }
    /// Those that this machine can run; LinearAvailabilityTests shows what is missing as skipped tests.
    static let names = table.filter { $0.features & ~lathe_cpu_features() == 0 }.map { String(cString: $0.name) }
    static func kernel(_ name: String) -> lathe_linear_f32_kernel {
        table.first { String(cString: $0.name) == name }!
    }
}

/// A call of a float32 linear kernel, every array against a guard page.
private final class Problem {
    let rows, columns, depth, slack: Int
    let epilogue: lathe_epilogue
    let hasBias: Bool
    let residualKind: LinearQD8Case.Residual
    let x: [Float]  // [rows][depth + slack], the last row without slack
    let w: [Float]  // [columns][depth]
    let bias: [Float]
    let residual: [Float]  // [rows][columns + slack], the last row without slack
    private let buffers: (x: GuardedBuffer, weights: GuardedBuffer, bias: GuardedBuffer, residual: GuardedBuffer)
    private let placement: GuardedBuffer.Placement

    init(
        rows: Int, columns: Int, depth: Int, epilogue: lathe_epilogue = LATHE_EPILOGUE_NONE, bias hasBias: Bool = true,
        residual residualKind: LinearQD8Case.Residual = .none, slack: Int = 0,
        placement: GuardedBuffer.Placement = .beforeGuard
    ) {
        (self.rows, self.columns, self.depth, self.slack) = (rows, columns, depth, slack)
        (self.epilogue, self.hasBias, self.residualKind, self.placement) = (epilogue, hasBias, residualKind, placement)
        var generator = SeededGenerator(seed: UInt64(rows * 10_007 + columns * 101 + depth))
        x = generator.floats((rows - 1) * (depth + slack) + depth, in: -1...1)
        w = generator.floats(columns * depth, in: -1...1)
        let padded = (columns + 15) / 16 * 16
        bias = generator.floats(padded, in: -1...1)
        residual = generator.floats((rows - 1) * (columns + slack) + columns, in: -1...1)
        var packed = [Float](repeating: 0, count: padded * depth)
        for n in 0..<columns {
            for k in 0..<depth { packed[(n / 16 * depth + k) * 16 + n % 16] = w[n * depth + k] }
        }
        buffers = (
            GuardedBuffer(x, placement: placement), GuardedBuffer(packed, alignment: 64, placement: placement),
            GuardedBuffer(bias, placement: placement), GuardedBuffer(residual, placement: placement)
        )
    }

    func run(_ kernel: lathe_linear_f32_kernel, panels: [Range<Int>]? = nil) -> [UInt32] {
        let start =
            residualKind == .output
            ? residual : [Float](repeating: Float(bitPattern: LinearQD8Problem.untouched), count: residual.count)
        let output = GuardedBuffer(start, placement: placement)
        var operation = lathe_linear_f32()
        operation.rows = rows
        operation.columns = columns
        operation.depth = depth
        operation.activations = UnsafePointer(buffers.x.pointer(to: Float.self))
        operation.activation_stride_bytes = (depth + slack) * 4
        operation.weights = UnsafePointer(buffers.weights.pointer(to: Float.self))
        operation.bias = hasBias ? UnsafePointer(buffers.bias.pointer(to: Float.self)) : nil
        operation.epilogue = epilogue
        switch residualKind {
        case .none: operation.residual = nil
        case .separate: operation.residual = UnsafePointer(buffers.residual.pointer(to: Float.self))
        case .output: operation.residual = UnsafePointer(output.pointer(to: Float.self))
        }
        operation.residual_stride_bytes = (columns + slack) * 4
        operation.output = output.pointer(to: Float.self)
        operation.output_stride_bytes = (columns + slack) * 4
        for range in panels ?? [0..<(columns + 15) / 16] { kernel.run(&operation, range.lowerBound, range.upperBound) }
        return output.array(of: UInt32.self)
    }
}

/// Every float32 kernel gives the bits of the scalar definition, and the definition is what the mathematics says.
@Suite struct LinearF32Tests {
    @Test(arguments: LinearF32Kernels.names, [1, 2, 7, 48, 65, 768])
    func shapes(kernel name: String, depth: Int) {
        let kernel = LinearF32Kernels.kernel(name)
        var seed = 0
        for rows in [1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 17, 33] {
            for columns in [1, 3, 15, 16, 17, 33, 64, 77, 128, 150, 260] {
                seed += 1
                let problem = Problem(
                    rows: rows, columns: columns, depth: depth, epilogue: LinearQD8Tests.epilogues[seed % 4],
                    bias: seed % 3 != 0, residual: LinearQD8Case.Residual.allCases[seed % 3], slack: seed % 2 * 5,
                    placement: seed % 5 == 0 ? .afterGuard : .beforeGuard)
                #expect(
                    problem.run(kernel) == problem.run(LinearF32Kernels.definition), "\(rows)×\(columns)×\(depth)")
            }
        }
    }

    @Test(arguments: LinearF32Kernels.names)
    func epilogues(kernel name: String) {
        let kernel = LinearF32Kernels.kernel(name)
        for epilogue in LinearQD8Tests.epilogues {
            for bias in [false, true] {
                for residual in LinearQD8Case.Residual.allCases {
                    for placement in GuardedBuffer.Placement.allCases {
                        for (rows, slack) in [(1, 0), (4, 3), (10, 0)] {
                            let problem = Problem(
                                rows: rows, columns: 77, depth: 20, epilogue: epilogue, bias: bias, residual: residual,
                                slack: slack, placement: placement)
                            #expect(
                                problem.run(kernel) == problem.run(LinearF32Kernels.definition),
                                "rows \(rows) epilogue \(epilogue.rawValue) bias \(bias) residual \(residual)")
                        }
                    }
                }
            }
        }
    }

    @Test(arguments: LinearF32Kernels.names)
    func panelRangesAddUp(kernel name: String) {
        let kernel = LinearF32Kernels.kernel(name)
        for rows in [1, 3, 8] {
            let problem = Problem(rows: rows, columns: 250, depth: 50, residual: .output)
            let whole = problem.run(LinearF32Kernels.definition)
            for cut in 1..<16 { #expect(problem.run(kernel, panels: [cut..<16, 0..<cut]) == whole) }
        }
    }

    /// One chain of fused multiply-adds, k ascending: written out here once more, apart from the C.
    @Test func theDefinitionIsTheMathematics() {
        for epilogue in LinearQD8Tests.epilogues {
            let problem = Problem(rows: 3, columns: 21, depth: 40, epilogue: epilogue, residual: .separate)
            let output = problem.run(LinearF32Kernels.definition)
            for row in 0..<3 {
                for n in 0..<21 {
                    var chain: Float = 0
                    var exact = 0.0
                    for k in 0..<40 {
                        chain.addProduct(problem.x[row * 40 + k], problem.w[n * 40 + k])
                        exact += Double(problem.x[row * 40 + k]) * Double(problem.w[n * 40 + k])
                    }
                    let residual = problem.residual[row * 21 + n]
                    let actual = Float(bitPattern: output[row * 21 + n])
                    if epilogue == LATHE_EPILOGUE_NONE { #expect(actual == chain + problem.bias[n] + residual) }
                    let expected = referenceActivation(epilogue, exact + Double(problem.bias[n])) + Double(residual)
                    #expect(abs(Double(actual) - expected) < 5e-6)
                }
            }
        }
    }

    @Test func selectionKeepsToFeatures() {
        for features in [UInt32(0), lathe_cpu_features(), UInt32.max, UInt32(LATHE_CPU_AVX2)] {
            #expect(lathe_linear_f32_select(features).pointee.features & ~features == 0)
        }
        #expect(String(cString: lathe_linear_f32_select(0).pointee.name) == "scalar")
    }
}
