package import LatheFormat

/// A matrix as the engine will multiply by it, dense and in memory: the panels, and what belongs to them.
package struct EncodedMatrix: Sendable {
    /// Outputs n.
    package let columns: Int
    /// Inputs k.
    package let depth: Int
    /// Dense: `f32_p16`, `qc8w_t16` or `qc4w_t16`.
    package let encoding: WeightEncoding
    /// P16 floats, T16 int8 or T16 nibbles.
    package let values: ByteView
    /// [n padded to 16]; empty for float32, as the rest is.
    package let scales: [Float]
    /// [n padded to 16], Σ_k of the int8 weights.
    package let columnSums: [Int32]
    /// [n/16][⌈K/g⌉][16] of int4, else empty.
    package let multipliers: [Int8]
    /// Of each panel, against the weights that were encoded. Sums go panel by panel, so that they do not depend on how a
    /// matrix was cut into slices.
    let panelErrors: [EncodingError]

    /// Against the weights that were encoded.
    package var error: EncodingError { panelErrors.reduce(into: EncodingError()) { $0 += $1 } }

    /// The numbers that the engine computes with, row-major [n, k]: scale · w8, rounded once.
    package func dequantized() -> FloatMatrix { Packing.dequantize(self) }

    /// `weights` [n, k] in the format, dense; what the format leaves open has a recipe's defaults.
    /// - Parameters:
    ///   - importance: [k], how much an error of each input's weights counts; nil: all alike. Only int4 can weigh.
    ///   - name: the parameter, for messages.
    package init(
        encoding weights: FloatMatrix, as format: TensorFormat, importance: [Float]? = nil, name: String, threads: Int
    ) throws(LatheError) {
        self = try format.encoder.encode(
            MatrixSlice(weights, importance: importance, name: name), in: Workspace(threads: threads))
    }

    /// A matrix whose numbers were chosen elsewhere: w ≈ scales(n) · numbers(n, k) · multipliers(n, k/g).
    /// - Parameters:
    ///   - numbers: [n][k], in −127…127; of int4 in −8…7.
    ///   - multipliers: [n][⌈K/g⌉] in ±1…15 of int4, K being k padded to 64; empty for int8.
    ///   - scales: [n], finite and positive.
    ///   - weights: what they stand for, for the error.
    package init(
        numbers: [Int8], multipliers: [Int8] = [], groupSize: Int? = nil, scales: [Float],
        for weights: FloatMatrix, name: String, threads: Int
    ) throws(LatheError) {
        let groups = groupSize.map { (weights.columns.roundedUp(to: 64) + $0 - 1) / $0 } ?? 0
        precondition(
            numbers.count == weights.elements.count && scales.count == weights.rows
                && multipliers.count == weights.rows * groups, "numbers, scales and multipliers for the whole matrix")
        precondition(numbers.allSatisfy { groupSize == nil ? $0 != -128 : (-8...7).contains($0) }, "numbers in range")
        precondition(multipliers.allSatisfy { $0 != 0 && (-15...15).contains($0) }, "multipliers in range")
        self = try Packing.packNumbers(
            numbers, multipliers: multipliers, scales: scales, encoding: QuantizedPanels(groupSize: groupSize),
            against: MatrixSlice(weights, name: name), in: Workspace(threads: threads))
    }
}

extension EncodedMatrix {
    init(
        slice: MatrixSlice, encoding: WeightEncoding, values: ByteView, scales: [Float] = [], columnSums: [Int32] = [],
        multipliers: [Int8] = [], panelErrors: [EncodingError]
    ) {
        columns = slice.columns
        depth = slice.depth
        self.encoding = encoding
        self.values = values
        self.scales = scales
        self.columnSums = columnSums
        self.multipliers = multipliers
        self.panelErrors = panelErrors
    }
}
