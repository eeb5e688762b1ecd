import LatheFormat
import Testing

@testable import LatheCompiler

@Suite struct CalibrationTextTests {
    private let tokens = (0..<1000).map(Int32.init)

    @Test func windowsAreSpreadFromFirstToLast() throws {
        let windows = try CalibrationText.windows(tokens: tokens, length: 100, count: 4)
        #expect(windows.map { $0[0] } == [0, 300, 600, 900])
        #expect(windows.allSatisfy { $0 == Array($0[0]..<$0[0] + 100) })
    }

    @Test func asManyAsTheTextHolds() throws {
        #expect(try CalibrationText.windows(tokens: tokens, length: 400, count: 10).map { $0[0] } == [0, 600])
        #expect(try CalibrationText.windows(tokens: tokens, length: 1000, count: 10) == [tokens])
    }

    @Test func textShorterThanOneWindow() throws {
        let error = try #require(throws: LatheError.self) {
            try CalibrationText.windows(tokens: tokens, length: 1001, count: 1, source: "short.txt")
        }
        #expect(error.code == .invalidRequest && error.names("short.txt", "1000", "1001", "longer text"))
        #expect(throws: LatheError.self) { try CalibrationText.windows(tokens: tokens, length: 0, count: 1) }
        #expect(throws: LatheError.self) { try CalibrationText.windows(tokens: tokens, length: 1, count: 0) }
    }
}

@Suite struct BLASLoadingTests {
    @Test func aLibraryThatIsNotThere() throws {
        let error = try #require(throws: LatheError.self) { try BLAS(library: "libopenblas-absent.so.0") }
        #expect(error.code == .missing)
        #expect(error.names("libopenblas-absent.so.0", "libopenblas0", "libopenblas-dev"))
    }

    @Test(.enabled(if: (try? BLAS.load()) != nil, "no OpenBLAS here"))
    func aLibraryThatIsAnother() throws {
        let error = try #require(throws: LatheError.self) { try BLAS(library: "libc.so.6") }
        #expect(error.code == .unsupported && error.names("libc.so.6", "cblas_sgemm"))
    }
}

@Suite(.enabled(if: (try? BLAS.load()) != nil, "no OpenBLAS here"))
struct BLASTests {
    private func random(_ count: Int, seed: UInt64) -> [Float] {
        var generator = SplitMix64(seed: seed)
        return (0..<count).map { _ in Float(generator.next() >> 40) / Float(1 << 23) - 1 }
    }

    @Test(arguments: [false, true], [false, true])
    func products(transposesA: Bool, transposesB: Bool) throws {
        let blas = try BLAS.load()
        let (m, n, k) = (5, 7, 11)
        // One column more than is read, and an offset: what a slice of a wider matrix looks like.
        let a = random(200, seed: 1)
        let b = random(200, seed: 2)
        let strideA = (transposesA ? m : k) + 1
        let strideB = (transposesB ? k : n) + 1
        var c = [Float](repeating: 3, count: m * (n + 2))
        var span = c.mutableSpan
        blas.multiply(
            .init(elements: a, offset: 4, stride: strideA, isTransposed: transposesA),
            .init(elements: b, offset: 9, stride: strideB, isTransposed: transposesB), m: m, n: n, k: k, alpha: 2,
            beta: 0.5, into: &span, stride: n + 2)
        for row in 0..<m {
            for column in 0..<n {
                let product = (0..<k).reduce(0.0) {
                    let x = a[4 + (transposesA ? $1 * strideA + row : row * strideA + $1)]
                    let y = b[9 + (transposesB ? column * strideB + $1 : $1 * strideB + column)]
                    return $0 + Double(x) * Double(y)
                }
                #expect(abs(Double(c[row * (n + 2) + column]) - (2 * product + 1.5)) < 1e-5)
            }
            #expect(c[row * (n + 2) + n] == 3 && c[row * (n + 2) + n + 1] == 3)
        }
    }

    /// XᵀX + 1, which is positive definite.
    private func positiveDefinite(_ order: Int) -> [Double] {
        let x = random(order * order, seed: 9).map(Double.init)
        return (0..<order * order).map { index in
            let (row, column) = (index / order, index % order)
            return (0..<order).reduce(row == column ? 1.0 : 0) { $0 + x[$1 * order + row] * x[$1 * order + column] }
        }
    }

    @Test(arguments: [1, 2, 17]) func factors(order: Int) throws {
        let blas = try BLAS.load()
        let matrix = positiveDefinite(order)
        var upper = matrix
        #expect(blas.factorizeUpper(&upper, order: order))
        var inverse = matrix
        #expect(blas.invertPositiveDefinite(&inverse, order: order))
        for row in 0..<order {
            for column in 0..<order {
                if column < row { #expect(upper[row * order + column] == 0) }
                let product = (0..<order).reduce(0) { $0 + upper[$1 * order + row] * upper[$1 * order + column] }
                #expect(abs(product - matrix[row * order + column]) < 1e-12 * Double(order * order))
                let unit = (0..<order).reduce(0) { $0 + inverse[row * order + $1] * matrix[$1 * order + column] }
                #expect(abs(unit - (row == column ? 1 : 0)) < 1e-10)
            }
        }
    }

    @Test func whatIsNotPositiveDefinite() throws {
        let blas = try BLAS.load()
        var matrix = [1.0, 2, 2, 1]
        #expect(!blas.factorizeUpper(&matrix, order: 2))
        matrix = [1.0, 2, 2, 1]
        #expect(!blas.invertPositiveDefinite(&matrix, order: 2))
    }

    @Test func aWeightThatIsNotFinite() throws {
        let bent = try BentCheckpoint()
        try bent.changeTensor("transformer.h.0.mlp.c_fc.weight") {
            $0.bytes.replaceSubrange(40..<44, with: [0, 0, 0xC0, 0x7F])
        }
        let reference = try Reference(checkpoint: Checkpoint(path: bent.path, access: .read), threads: 1)
        let error = try #require(throws: LatheError.self) { try reference.run([[1, 2]]) }
        #expect(error.code == .notFinite && error.names("h.0.mlp.c_fc.weight", "element 10"))
    }
}

@Suite struct ReferenceMathTests {
    @Test func exponential() {
        for step in -87_000...87_000 {
            let x = Float(step) / 1000
            let exact = _exp(Double(x))
            #expect(abs(Double(ReferenceMath.exponential(x)) - exact) <= 3e-7 * exact, "\(x)")
        }
        #expect(ReferenceMath.exponential(0) == 1)
        #expect(ReferenceMath.exponential(-1000) == ReferenceMath.exponential(-87))
    }

    @Test func activations() {
        let x = (-2000...2000).map { Float($0) / 200 }
        func applied(_ activation: Activation) -> [Double] {
            var values = x
            var span = values.mutableSpan
            ReferenceMath.activate(&span, activation)
            return values.map(Double.init)
        }
        let (tanh, erf) = (applied(.geluTanh), applied(.geluErf))
        for (index, value) in x.map(Double.init).enumerated() {
            let z = 2 * (2 / Double.pi).squareRoot() * (value + 0.044715 * value * value * value)
            #expect(abs(tanh[index] - value / (1 + _exp(-z))) < 1e-6)
        }
        #expect(applied(.relu) == x.map { Double(max($0, 0)) })
        // Φ(1) and Φ(−1) of the standard normal distribution.
        #expect(abs(erf[2200] - 0.841_344_746) < 1e-6)
        #expect(abs(erf[1800] + 0.158_655_254) < 1e-6)
    }
}
