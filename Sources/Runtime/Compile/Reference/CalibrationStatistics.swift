package import LatheFormat

/// What a linear layer's inputs are like over a calibration text, for each input channel.
///
/// Sums are float64 and do not depend on the number of threads.
package struct CalibrationStatistics: Sendable {
    /// Number of input rows (tokens).
    package let count: Int
    /// Σ x of each channel, [k].
    package let sums: [Double]
    /// Σ x² of each channel, [k]: ‖X_j‖² of Wanda.
    package let squares: [Double]
    /// max |x| of each channel, [k].
    package let greatest: [Double]
    /// XᵀX [k, k], row-major and symmetric, where it was asked for.
    package let gram: [Double]?

    package var channels: Int { sums.count }
    /// E[x] of each channel, [k].
    package var means: [Double] { sums.map { $0 / Double(count) } }
    /// ‖X_j‖₂ of each channel, [k].
    package var norms: [Double] { squares.map { $0.squareRoot() } }

    /// - Parameters:
    ///   - input: [tokens, k], at least one token.
    ///   - gram: whether XᵀX is wanted, which takes 8·k² bytes and k multiplications for each element of the input.
    init(_ input: FloatMatrix, gram: Bool, blas: BLAS, threads: Int) {
        precondition(input.rows > 0, "statistics of no rows")
        count = input.rows
        let width = input.columns
        let blockRows = 512
        let blocks = (input.rows + blockRows - 1) / blockRows
        // Σx, Σx², max|x| of each block of rows, combined in order.
        var partial = [Double](repeating: 0, count: blocks * 3 * width)
        forEachBlock(
            of: &partial, (0..<blocks).map { $0 * 3 * width..<($0 + 1) * 3 * width }, threads: threads
        ) { block, part in
            let elements = input.elements.span
            for row in block * blockRows..<min((block + 1) * blockRows, input.rows) {
                for column in 0..<width {
                    let x = Double(elements[row * width + column])
                    part[column] += x
                    part[width + column] += x * x
                    part[2 * width + column] = max(part[2 * width + column], abs(x))
                }
            }
        }
        var sums = [Double](repeating: 0, count: width)
        var squares = sums
        var greatest = sums
        for start in stride(from: 0, to: partial.count, by: 3 * width) {
            for column in 0..<width {
                sums[column] += partial[start + column]
                squares[column] += partial[start + width + column]
                greatest[column] = max(greatest[column], partial[start + 2 * width + column])
            }
        }
        self.sums = sums
        self.squares = squares
        self.greatest = greatest
        self.gram = gram ? Self.gram(of: input, blas: blas, threads: threads) : nil
    }

    /// XᵀX: float32 products of up to 1024 rows, added up in float64.
    private static func gram(of input: FloatMatrix, blas: BLAS, threads: Int) -> [Double] {
        let width = input.columns
        let panel = 128
        var result = [Double](repeating: 0, count: width * width)
        let blocks = stride(from: 0, to: width, by: panel).map { $0 * width..<min($0 + panel, width) * width }
        // The upper triangle, panel by panel: rows of a panel against all columns from its first on.
        forEachBlock(of: &result, blocks, threads: threads) { index, sum in
            let first = index * panel
            let rows = sum.count / width
            let columns = width - first
            var product = [Float](repeating: 0, count: rows * columns)
            for start in stride(from: 0, to: input.rows, by: 1024) {
                let depth = min(1024, input.rows - start)
                let offset = start * width + first
                var span = product.mutableSpan
                blas.multiply(
                    .init(elements: input.elements, offset: offset, stride: width, isTransposed: true),
                    .init(elements: input.elements, offset: offset, stride: width), m: rows, n: columns, k: depth,
                    into: &span, stride: columns)
                for row in 0..<rows {
                    for column in 0..<columns {
                        sum[row * width + first + column] += Double(span[row * columns + column])
                    }
                }
            }
        }
        for row in 1..<max(1, width) {
            for column in 0..<row { result[row * width + column] = result[column * width + row] }
        }
        return result
    }
}

extension Reference {
    /// The statistics of one layer's input, from within `run`.
    ///
    /// - Parameter gram: whether XᵀX is wanted too.
    package func statistics(of input: FloatMatrix, gram: Bool = false) -> CalibrationStatistics {
        CalibrationStatistics(input, gram: gram, blas: blas, threads: threads)
    }

    /// Runs `windows` and returns the statistics of each linear layer's input, by the weight's name.
    ///
    /// With `gram` all layers' matrices stand in memory at once (8·k² bytes each): whoever can treat layers one by one
    /// calls `statistics` from within `run` instead.
    ///
    /// - Throws: what `run` throws.
    package func calibrate(
        windows: [[Int32]], gram: Bool = false, progress: (Double) -> Void = { _ in }
    ) throws(LatheError) -> [String: CalibrationStatistics] {
        var result: [String: CalibrationStatistics] = [:]
        _ = try run(windows, progress: progress) { layer in
            result[layer.weight.name] = self.statistics(of: layer.input, gram: gram)
            return nil
        }
        return result
    }
}
