import CKernels
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Layer norm, activations, addition and log-sum-exp: the bits of the definition, and the definition is the mathematics.
@Suite struct VectorRowsTests {
    static let widths = [1, 3, 15, 16, 17, 48, 64, 65, 768, 1023]
    static let activations = [
        LATHE_EPILOGUE_NONE, LATHE_EPILOGUE_GELU_TANH, LATHE_EPILOGUE_GELU_ERF, LATHE_EPILOGUE_RELU,
    ]

    // MARK: - Layer norm

    private struct LayerNormCase {
        var rows = 1
        var width: Int
        var slack = 0
        var inPlace = false
        var data = TestData.ordinary
        var placement = GuardedBuffer.Placement.beforeGuard

        func inputs() -> (x: [Float], gamma: [Float], beta: [Float]) {
            var generator = SeededGenerator(seed: UInt64(width * 100 + rows))
            return (
                data.floats(rows * width, using: &generator), generator.floats(width, in: -2...2),
                generator.floats(width, in: -1...1)
            )
        }

        func run(_ kernel: lathe_vector_kernel) -> [Float] {
            let (values, gamma, beta) = inputs()
            let stride = width + slack
            let x = GuardedBuffer(values.spread(width: width, stride: stride), placement: placement)
            let g = GuardedBuffer(gamma, placement: placement)
            let b = GuardedBuffer(beta, placement: placement)
            let y = inPlace ? x : GuardedBuffer(bytes: x.bytes, placement: placement)
            if !inPlace { y.fill(0x5A) }
            kernel.layer_norm(
                x.pointer(), stride * 4, rows, width, g.pointer(), b.pointer(), 1e-5, y.pointer(), stride * 4)
            return y.array()
        }
    }

    @Test(arguments: VectorKernels.names, TestData.allCases)
    func layerNormIsTheDefinition(kernel name: String, data: TestData) throws {
        let kernel = try VectorKernels.kernel(name)
        for width in Self.widths {
            for rows in [1, 2, 3, 5, 8] {
                for placement in GuardedBuffer.Placement.allCases {
                    let shape = LayerNormCase(
                        rows: rows, width: width, slack: rows % 2 * 5, inPlace: rows > 2, data: data,
                        placement: placement)
                    #expect(shape.run(kernel).bits == shape.run(VectorKernels.definition).bits, "\(shape)")
                }
            }
        }
    }

    @Test(arguments: VectorKernels.names)
    func layerNormIsTheMathematics(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        for width in Self.widths {
            let shape = LayerNormCase(rows: 2, width: width)
            let (x, gamma, beta) = shape.inputs()
            let y = shape.run(kernel)
            for row in 0..<2 {
                let values = x[row * width..<(row + 1) * width].map(Double.init)
                let mean = values.reduce(0, +) / Double(width)
                let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(width)
                for j in 0..<width {
                    let expected =
                        (values[j] - mean) / (variance + 1e-5).squareRoot() * Double(gamma[j]) + Double(beta[j])
                    #expect(abs(Double(y[row * width + j]) - expected) < 1e-5, "width \(width), element \(j)")
                }
            }
        }
    }

    // MARK: - Element by element

    private func activate(
        _ kernel: lathe_vector_kernel, _ x: [Float], _ activation: lathe_epilogue, inPlace: Bool = false,
        placement: GuardedBuffer.Placement = .beforeGuard
    ) -> [Float] {
        let input = GuardedBuffer(x, placement: placement)
        let output = inPlace ? input : GuardedBuffer(bytes: input.bytes, placement: placement)
        kernel.activate(input.pointer(), x.count, activation, output.pointer())
        return output.array()
    }

    @Test(arguments: VectorKernels.names, TestData.allCases)
    func activationsAreTheDefinition(kernel name: String, data: TestData) throws {
        let kernel = try VectorKernels.kernel(name)
        for activation in Self.activations {
            for count in Self.widths {
                var generator = SeededGenerator(seed: UInt64(count))
                let x = data.floats(count, using: &generator)
                for placement in GuardedBuffer.Placement.allCases {
                    let result = activate(kernel, x, activation, inPlace: count % 2 == 0, placement: placement)
                    #expect(
                        result.bits == activate(VectorKernels.definition, x, activation).bits,
                        "activation \(activation.rawValue), \(count) values")
                }
            }
        }
    }

    /// Every 4093rd finite float, of either sign, large and denormal ones included.
    @Test(arguments: VectorKernels.names)
    func activationsOverAllFloats(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        let x = stride(from: UInt32(0), to: 0x7F80_0000, by: 4093).flatMap {
            [Float(bitPattern: $0), -Float(bitPattern: $0)]
        }
        for activation in Self.activations {
            let result = activate(kernel, x, activation)
            #expect(result.bits == activate(VectorKernels.definition, x, activation).bits)
            var worst = 0.0
            for (x, y) in zip(x, result) {
                let expected = referenceGELU(activation, Double(x))
                // Beyond ±8 the result is x or nearly nothing, known to a rounding.
                worst = max(worst, abs(Double(y) - expected) / max(1, abs(Double(x)) / 8))
            }
            #expect(worst <= (activation == LATHE_EPILOGUE_GELU_TANH ? 5.2e-7 : 4.0e-7), "activation \(activation)")
        }
    }

    /// Without the cancellation and the overflow of the textbook forms.
    private func referenceGELU(_ activation: lathe_epilogue, _ x: Double) -> Double {
        switch activation {
        case LATHE_EPILOGUE_GELU_TANH:
            x / (1 + exp(-2 * (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
        case LATHE_EPILOGUE_GELU_ERF: 0.5 * x * erfc(-x / 2.0.squareRoot())
        case LATHE_EPILOGUE_RELU: max(x, 0)
        default: x
        }
    }

    @Test(arguments: VectorKernels.names, [LATHE_EPILOGUE_GELU_TANH, LATHE_EPILOGUE_GELU_ERF, LATHE_EPILOGUE_RELU])
    func activationsKeepNaN(kernel name: String, activation: lathe_epilogue) throws {
        let kernel = try VectorKernels.kernel(name)
        let x = (0..<33).map { $0 % 2 == 0 ? Float.nan : 1 }
        let y = activate(kernel, x, activation)
        for i in x.indices { #expect(y[i].isNaN == x[i].isNaN) }
    }

    @Test(arguments: VectorKernels.names)
    func additions(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        for count in Self.widths {
            for placement in GuardedBuffer.Placement.allCases {
                var generator = SeededGenerator(seed: UInt64(count))
                let (a, b) = (generator.floats(count, in: -9...9), generator.floats(count, in: -1e-3...1e-3))
                let left = GuardedBuffer(a, placement: placement)
                let right = GuardedBuffer(b, placement: placement)
                let apart = GuardedBuffer(bytes: count * 4, placement: placement)
                kernel.add(left.pointer(), right.pointer(), count, apart.pointer())
                #expect(apart.array(of: Float.self) == zip(a, b).map(+))
                kernel.add(left.pointer(), right.pointer(), count, right.pointer())
                #expect(right.array(of: Float.self) == apart.array(of: Float.self))
            }
        }
    }

    // MARK: - Greatest

    @Test(arguments: VectorKernels.names)
    func greatest(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        for count in Self.widths + [255, 256, 257, 300, 50257] {
            var generator = SeededGenerator(seed: UInt64(count))
            let x = TestData.allCases[0].floats(count, using: &generator)
            func expect(_ values: [Float], _ index: Int) {
                for placement in GuardedBuffer.Placement.allCases {
                    let buffer = GuardedBuffer(values, placement: placement)
                    #expect(kernel.greatest(buffer.pointer(), count) == index, "\(count) values")
                }
            }
            expect(x, x.firstIndex(of: x.max()!)!)
            for place in [0, count / 2, count - 1] {
                // Of equals the first; a zero's sign makes no difference.
                var tied = x
                tied[place] = 100
                tied[count - 1] = 100
                expect(tied, place)
                expect((0..<count).map { $0 == place ? -0.0 : 0 }, 0)
                for wrong: Float in [.nan, -.nan, .infinity, -.infinity] {
                    var poisoned = x
                    poisoned[place] = wrong
                    expect(poisoned, count)
                }
            }
            expect([Float](repeating: -.greatestFiniteMagnitude, count: count), 0)
        }
    }

    // MARK: - Log-sum-exp

    @Test(arguments: VectorKernels.names)
    func logSumExp(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        for count in Self.widths + [50257] {
            for data in TestData.allCases {
                var generator = SeededGenerator(seed: UInt64(count))
                let x = data.floats(count, using: &generator).map { $0 * 5 }
                for placement in GuardedBuffer.Placement.allCases {
                    let buffer = GuardedBuffer(x, placement: placement)
                    let result = kernel.log_sum_exp(buffer.pointer(), count)
                    let defined = VectorKernels.definition.log_sum_exp(buffer.pointer(), count)
                    #expect(result.bitPattern == defined.bitPattern, "\(count) values, \(data)")
                    let greatest = Double(x.max()!)
                    let expected = greatest + log(x.reduce(0) { $0 + exp(Double($1) - greatest) })
                    #expect(abs(Double(result) - expected) <= 4e-6 * max(1, abs(expected)), "\(count) values, \(data)")
                }
            }
        }
    }
}
