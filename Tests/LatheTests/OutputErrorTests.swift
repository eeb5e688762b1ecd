import CKernels
import LatheFormat
import Testing

@testable import LatheCompiler

/// What diagnosis measures, against the kernels and against plain float64.
@Suite struct OutputErrorTests {
    private func matrix(_ rows: Int, _ columns: Int, seed: UInt64, offset: Float = 0) -> FloatMatrix {
        var random = SeededRandom(seed: seed)
        return FloatMatrix(
            rows: rows, columns: columns,
            elements: (0..<rows * columns).map { _ in Float.random(in: -1...1, using: &random) + offset })
    }

    /// The engine's own rounding, by the definition of its kernel.
    private func rounded(_ input: FloatMatrix) throws -> FloatMatrix {
        var count = 0
        let kernel = try #require(lathe_quantize_kernels(&count)).pointee
        var rows = [lathe_row_quantization](repeating: .init(), count: input.rows)
        let stride = input.columns.roundedUp(to: 64)
        var numbers = [UInt8](repeating: 0, count: input.rows * stride)
        kernel.to_storage.0!(input.elements, input.columns * 4, input.rows, input.columns, &rows, &numbers, stride)
        var result = input
        for row in 0..<input.rows {
            for column in 0..<input.columns {
                result[row, column] =
                    Float(Int32(numbers[row * stride + column]) - rows[row].zero_point) * rows[row].scale
            }
        }
        return result
    }

    @Test(arguments: [0, 0.5, 3] as [Float]) func activationsAsTheEngineRoundsThem(offset: Float) throws {
        var input = matrix(130, 77, seed: 1, offset: offset)
        for column in 0..<77 { input[3, column] = 0 }
        input[4, 5] = 40
        let rounded = try rounded(input)
        let differences = ActivationRounding.differences(of: input, threads: 2)
        for index in input.elements.indices {
            #expect(differences.elements[index] == rounded.elements[index] - input.elements[index])
        }
    }

    @Test(.enabled(if: (try? BLAS.load()) != nil, "no OpenBLAS here"), arguments: [1, 2])
    func errorsOfOutputs(threads: Int) throws {
        let reference = try Reference(
            checkpoint: Checkpoint(path: "\(TestModels.golden)/tiny-gpt2", access: .read), threads: threads)
        let input = matrix(150, 33, seed: 2, offset: 0.25)
        let weight = matrix(21, 33, seed: 3)
        var quantized = weight
        for index in quantized.elements.indices {
            quantized.elements[index] = (quantized.elements[index] * 20).rounded() / 20
        }
        let inexact = try rounded(input)
        func distance(_ x: FloatMatrix, _ w: FloatMatrix) -> Double {
            var (squares, norm) = (0.0, 0.0)
            for row in 0..<x.rows {
                for output in 0..<w.rows {
                    var (exact, found) = (0.0, 0.0)
                    for k in 0..<x.columns {
                        exact += Double(input[row, k]) * Double(weight[output, k])
                        found += Double(x[row, k]) * Double(w[output, k])
                    }
                    squares += (found - exact) * (found - exact)
                    norm += exact * exact
                }
            }
            return (squares / norm).squareRoot()
        }
        let probe = OutputErrorProbe(input: input, weight: weight, reference: reference)
        func expectNear(_ found: Double, _ expected: Double) {
            #expect(expected > 1e-4 && abs(found - expected) <= 1e-4 * expected, "\(found), expected \(expected)")
        }
        expectNear(probe.activationError, distance(inexact, weight))
        let errors = probe.errors(of: quantized)
        expectNear(errors.weights, distance(input, quantized))
        expectNear(errors.output, distance(inexact, quantized))
        // The exact weight leaves what the activations do.
        let exact = probe.errors(of: weight)
        #expect(exact.weights == 0 && abs(exact.output - probe.activationError) <= 1e-6 * probe.activationError)
    }
}
