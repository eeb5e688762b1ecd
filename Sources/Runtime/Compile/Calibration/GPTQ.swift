import LatheFormat

/// Rounding with error compensation (Frantar et al. 2022, arXiv 2210.17323): inputs are rounded one after the other, and
/// what a rounding adds to the layer's output on a calibration text is taken off again, as far as it goes, by the weights of
/// the inputs still to come.
///
/// With H = XᵀX of the layer's input and U the upper Cholesky factor of H⁻¹ = Uᵀ·U, rounding input j by an error of δ is best
/// answered by w(l) −= δ·U(j,l)/U(j,j) for l > j. Outputs do not see each other.
struct GPTQ: Sendable {
    /// Inputs rounded before the rest of the matrix is corrected by one product.
    private static let blockColumns = 128
    /// Outputs that one thread works on at a time: fixed, so that results do not depend on the number of threads.
    private static let blockRows = 64

    /// k
    let inputs: Int
    /// The order in which inputs are rounded.
    let order: [Int]
    /// U [k, k], row-major, zeros below the diagonal.
    let factor: [Float]
    /// What an error of 1 in an input's weight costs when the rest has been corrected: 1/U(j,j)², [k].
    let costs: [Float]
    private let blas: BLAS

    /// - Parameters:
    ///   - gram: XᵀX [k, k], symmetric. Inputs that are always 0 are allowed.
    ///   - damping: share of the diagonal's mean that is added to the diagonal; the paper's 1 %.
    /// - Returns: nil where H is not positive definite even so: its values are not finite.
    init?(gram: [Double], damping: Double = 0.01, ordered: Bool = false, blas: BLAS) {
        let k = Int(Double(gram.count).squareRoot())
        precondition(k > 0 && gram.count == k * k, "a square matrix")
        var matrix = gram
        let order = ordered ? (0..<k).sorted { (gram[$0 * k + $0], $1) > (gram[$1 * k + $1], $0) } : Array(0..<k)
        self.order = order
        if ordered {
            for i in 0..<k { for j in 0..<k { matrix[i * k + j] = gram[order[i] * k + order[j]] } }
        }
        var mean = 0.0
        for j in 0..<k { mean += matrix[j * k + j] / Double(k) }
        // Of a layer that no input reaches, any answer is as good.
        let added = mean > 0 ? damping * mean : 1
        for j in 0..<k { matrix[j * k + j] += added }
        guard blas.invertPositiveDefinite(&matrix, order: k), blas.factorizeUpper(&matrix, order: k) else { return nil }
        inputs = k
        factor = matrix.map { Float($0) }
        guard factor.allSatisfy(\.isFinite) else { return nil }
        costs = (0..<k).map { 1 / (matrix.diagonal($0, order: k) * matrix.diagonal($0, order: k)) }.map { Float($0) }
        self.blas = blas
    }

    /// Rounds `weights` [n, k] to `grid`. Weights that are exactly 0 are taken for pruned: they stay 0, and what the
    /// correction would have given them is passed on. Group multipliers are chosen when their group's turn comes, by
    /// its weights as corrected so far.
    ///
    /// The result does not depend on `threads`.
    func quantize(
        _ weights: FloatMatrix, grid: WeightGrid, multipliers: [Int8]? = nil, weighted: Bool = true, threads: Int
    ) -> GridWeights {
        precondition(weights.columns == inputs && grid.scales.count == weights.rows)
        let groups = grid.groups(inputs: inputs)
        // Of each output its k values, then its multipliers.
        let stride = inputs + groups
        // Groups of nothing but padding have the multiplier 1.
        var packed = [Int8](repeating: 1, count: weights.rows * stride)
        let blocks = FloatMatrix.rowBlocks(rows: weights.rows, columns: stride, size: Self.blockRows)
        let diagonal = diagonalBlocks()
        forEachBlock(of: &packed, blocks, threads: threads) { index, output in
            let first = index * Self.blockRows
            var rows = RowBlock(
                weights: weights, rows: first..<first + output.count / stride, grid: grid, stride: stride, order: order,
                multipliers: multipliers, weighted: weighted)
            for start in Swift.stride(from: 0, to: inputs, by: Self.blockColumns) {
                rows.round(from: start, factor: diagonal[start / Self.blockColumns], costs: costs, output: &output)
                rows.correct(from: start, factor: factor, blas: blas)
            }
        }
        var values: [Int8] = []
        var multipliers: [Int8] = []
        values.reserveCapacity(weights.rows * inputs)
        for start in Swift.stride(from: 0, to: packed.count, by: stride) {
            values.append(contentsOf: packed[start..<start + inputs])
            multipliers.append(contentsOf: packed[start + inputs..<start + stride])
        }
        return GridWeights(values: values, multipliers: multipliers)
    }

    /// The squares of `factor` on its diagonal, each row as `vectors` vectors, zeros behind the last input.
    private func diagonalBlocks() -> [[SIMD16<Float>]] {
        stride(from: 0, to: inputs, by: Self.blockColumns).map { start in
            (0..<min(Self.blockColumns, inputs - start)).flatMap { row in
                (0..<RowBlock.vectors).map { vector in
                    SIMD16<Float>.load(
                        factor.span, from: (start + row) * inputs + start + vector * 16,
                        count: inputs - start - vector * 16)
                }
            }
        }
    }

    // MARK: A block of outputs

    /// Some outputs' weights as corrected so far.
    private struct RowBlock {
        static let vectors = blockColumns / 16

        let inputs: Int
        let stride: Int
        let grid: WeightGrid
        let order: [Int]
        let multipliers: [Int8]?
        let weighted: Bool
        let rows: Range<Int>
        /// [rows, k]
        var weights: [Float]
        /// Which weights are pruned: those that were 0, [rows, k].
        let isPruned: [Bool]
        /// What rounding left in the present block of inputs, over U(j,j), [rows, blockColumns].
        var errors: [Float]

        init(
            weights: FloatMatrix, rows: Range<Int>, grid: WeightGrid, stride: Int, order: [Int], multipliers: [Int8]?,
            weighted: Bool
        ) {
            self.order = order
            self.multipliers = multipliers
            self.weighted = weighted
            inputs = weights.columns
            self.stride = stride
            self.grid = grid
            self.rows = rows
            self.weights = rows.flatMap { row in order.map { weights[row, $0] } }
            isPruned = self.weights.map { $0 == 0 }
            errors = [Float](repeating: 0, count: rows.count * blockColumns)
        }

        /// Rounds the block of inputs that begins with `start`, correcting within the block.
        ///
        /// - Parameter factor: the block's square of U.
        mutating func round(
            from start: Int, factor: [SIMD16<Float>], costs: [Float], output: inout MutableSpan<Int8>
        ) {
            let columns = min(blockColumns, inputs - start)
            let factor = factor.span
            let importance = (0..<Self.vectors).map {
                weighted
                    ? SIMD16<Float>.load(costs.span, from: start + $0 * 16, count: columns - $0 * 16)
                    : .init(repeating: 1)
            }
            var row = [SIMD16<Float>](repeating: .zero, count: Self.vectors)
            for index in rows.indices.map({ $0 - rows.lowerBound }) {
                let scale = grid.scales[rows.lowerBound + index]
                for vector in 0..<Self.vectors {
                    row[vector] = .load(
                        weights.span, from: index * inputs + start + vector * 16, count: columns - vector * 16)
                }
                var multiplier: Int8 = 1
                for column in 0..<columns {
                    if let groupSize = grid.groupSize, let multipliers {
                        let groups = grid.groups(inputs: inputs)
                        let group = order[start + column] / groupSize
                        multiplier = multipliers[(rows.lowerBound + index) * groups + group]
                        output[index * stride + inputs + group] = multiplier
                    } else if let groupSize = grid.groupSize, column % groupSize == 0 {
                        let group = column / 16..<min((column + groupSize) / 16, Self.vectors)
                        multiplier =
                            Int4Multiplier.choose(
                                row.span.extracting(group), importance: importance.span.extracting(group), scale: scale
                            ).multiplier
                        output[index * stride + inputs + (start + column) / groupSize] = multiplier
                    }
                    let weight = row[column / 16][column % 16]
                    let step = scale * Float(multiplier)
                    let isPruned = isPruned[index * inputs + start + column]
                    let value = isPruned ? 0 : grid.nearest(weight, step: step)
                    output[index * stride + order[start + column]] = value
                    let error =
                        (weight - Float(value) * step) / factor[column * Self.vectors + column / 16][column % 16]
                    errors[index * blockColumns + column] = error
                    // Lanes of inputs already rounded change by nothing, or are no longer looked at.
                    let spread = SIMD16<Float>(repeating: error)
                    for vector in column / 16..<Self.vectors {
                        row[vector] -= spread * factor[column * Self.vectors + vector]
                    }
                }
            }
        }

        /// Corrects all inputs behind the block: W −= E·U.
        mutating func correct(from start: Int, factor: [Float], blas: BLAS) {
            let end = start + blockColumns
            guard end < inputs else { return }
            let (errors, inputs, count) = (errors, inputs, rows.count)
            var target = weights.mutableSpan
            blas.multiply(
                .init(elements: errors, stride: blockColumns),
                .init(elements: factor, offset: start * inputs + end, stride: inputs), m: count, n: inputs - end,
                k: blockColumns, alpha: -1, beta: 1, into: &target, offset: end, stride: inputs)
        }
    }
}

extension [Double] {
    fileprivate func diagonal(_ index: Int, order: Int) -> Double { self[index * order + index] }
}

extension SIMD16<Float> {
    /// Sixteen elements from `start` on, zeros behind the first `count` of them.
    @inline(__always)
    static func load(_ elements: Span<Float>, from start: Int, count: Int) -> SIMD16<Float> {
        var result = SIMD16<Float>.zero
        for lane in 0..<Swift.min(16, Swift.max(count, 0)) { result[lane] = elements[start + lane] }
        return result
    }
}
