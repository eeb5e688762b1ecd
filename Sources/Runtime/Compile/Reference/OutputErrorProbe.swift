import LatheFormat

/// Measures what rounding a linear layer's weights and inputs does to its outputs on given inputs:
/// ‖X̂·Ŵᵀ − X·Wᵀ‖ / ‖X·Wᵀ‖ over all tokens and outputs, the bias left out.
///
/// Differences are multiplied, not results subtracted: X̂Ŵ − XW = X(Ŵ − W) + (X̂ − X)Ŵ, so that small errors keep their
/// digits. Products are float32, norms float64.
package struct OutputErrorProbe {
    /// What 8-bit activations alone cost: ‖(X̂ − X)·Wᵀ‖ / ‖X·Wᵀ‖.
    package let activationError: Double

    private let input: FloatMatrix
    /// X̂ − X
    private let rounding: FloatMatrix
    private let weight: FloatMatrix
    private let outputNorm: Double
    private let blas: BLAS
    private let threads: Int

    /// - Parameters:
    ///   - input: X [tokens, k].
    ///   - weight: W [n, k] of the checkpoint.
    package init(input: FloatMatrix, weight: FloatMatrix, reference: Reference) {
        precondition(input.columns == weight.columns, "inputs as deep as the weight")
        self.input = input
        self.weight = weight
        blas = reference.blas
        threads = reference.threads
        rounding = ActivationRounding.differences(of: input, threads: threads)
        let norms = Self.norms([(input, weight), (rounding, weight)], accumulating: false, blas, threads)
        outputNorm = norms[0]
        activationError = Self.ratio(norms[1], norms[0])
    }

    /// The error with `quantized` Ŵ [n, k] in place of the weight: by the weights alone, and with 8-bit activations too.
    package func errors(of quantized: FloatMatrix) -> (weights: Double, output: Double) {
        precondition([quantized.rows, quantized.columns] == [weight.rows, weight.columns], "a weight of that shape")
        var difference = quantized
        forEachBlock(
            of: &difference.elements,
            FloatMatrix.rowBlocks(rows: weight.rows, columns: weight.columns, size: 256), threads: threads
        ) { block, elements in
            let exact = weight.elements.span.extracting(droppingFirst: block * 256 * weight.columns)
            for index in elements.indices { elements[index] -= exact[index] }
        }
        let norms = Self.norms([(input, difference), (rounding, quantized)], accumulating: true, blas, threads)
        return (Self.ratio(norms[0], outputNorm), Self.ratio(norms[1], outputNorm))
    }

    /// 0 where nothing is lost of nothing.
    private static func ratio(_ error: Double, _ norm: Double) -> Double { error == 0 ? 0 : error / norm }

    /// ‖x·wᵀ‖ of each pair, or with `accumulating` of each pair's product and those of the pairs before it together. The
    /// products are never held whole.
    private static func norms(
        _ pairs: [(x: FloatMatrix, w: FloatMatrix)], accumulating: Bool, _ blas: BLAS, _ threads: Int
    ) -> [Double] {
        let (tokens, depth, columns) = (pairs[0].x.rows, pairs[0].x.columns, pairs[0].w.rows)
        let blockRows = 128
        let blocks = (tokens + blockRows - 1) / blockRows
        var squares = [Double](repeating: 0, count: blocks * pairs.count)
        forEachBlock(
            of: &squares, (0..<blocks).map { $0 * pairs.count..<($0 + 1) * pairs.count }, threads: threads
        ) { block, squares in
            let rows = min(blockRows, tokens - block * blockRows)
            var product = [Float](repeating: 0, count: rows * columns)
            for index in pairs.indices {
                var span = product.mutableSpan
                blas.multiply(
                    .init(elements: pairs[index].x.elements, offset: block * blockRows * depth, stride: depth),
                    .init(elements: pairs[index].w.elements, stride: depth, isTransposed: true), m: rows, n: columns,
                    k: depth, beta: accumulating && index > 0 ? 1 : 0, into: &span, stride: columns)
                var sum = 0.0
                for element in span.indices { sum += Double(span[element]) * Double(span[element]) }
                squares[index] = sum
            }
        }
        return pairs.indices.map { pair in
            (0..<blocks).reduce(0) { $0 + squares[$1 * pairs.count + pair] }.squareRoot()
        }
    }
}

/// The engine's 8-bit activations, emulated: asymmetric for each row, zero always in range (docs/ARITHMETIC.md).
enum ActivationRounding {
    /// x̂ − x of each element of `input` [tokens, k].
    static func differences(of input: FloatMatrix, threads: Int) -> FloatMatrix {
        var result = input
        let width = input.columns
        forEachBlock(
            of: &result.elements, FloatMatrix.rowBlocks(rows: input.rows, columns: width, size: 64), threads: threads
        ) { _, elements in
            for start in stride(from: 0, to: elements.count, by: width) {
                var (low, high): (Float, Float) = (0, 0)
                for index in start..<start + width {
                    low = min(low, elements[index])
                    high = max(high, elements[index])
                }
                let span = high - low
                let isFlat = span < 0x1p-100
                let inverse = isFlat ? 0 : 255 / span
                let scale = isFlat ? 1 : span / 255
                let zero = isFlat ? 0 : min(max((-low * inverse).rounded(.toNearestOrEven), 0), 255)
                for index in start..<start + width {
                    let x = elements[index]
                    let q = min(max(zero.addingProduct(x, inverse).rounded(.toNearestOrEven), 0), 255)
                    elements[index] = (q - zero) * scale - x
                }
            }
        }
        return result
    }
}
