import LatheFormat

/// The numbers that a weight matrix may take: of each output a scale, and integers −127…127 or, with groups, the products of
/// q in −8…7 and a group's multiplier in ±1…15 (docs/ARITHMETIC.md).
struct WeightGrid: Sendable {
    /// [n], positive.
    let scales: [Float]
    /// int4: consecutive inputs that share a multiplier. nil: int8.
    let groupSize: Int?

    /// The grid that an encoding of the matrix chose, of `rows` outputs.
    init(of encoded: EncodedMatrix) {
        scales = Array(encoded.scales.prefix(encoded.columns))
        groupSize = encoded.encoding.quantized!.groupSize
    }

    /// Multipliers of one output: inputs are padded to 64. 0 for int8.
    func groups(inputs: Int) -> Int { groupSize.map { (inputs.roundedUp(to: 64) + $0 - 1) / $0 } ?? 0 }

    /// The nearest integer of the grid's range to weight/step.
    @inline(__always)
    func nearest(_ weight: Float, step: Float) -> Int8 {
        let (low, high): (Float, Float) = groupSize == nil ? (-127, 127) : (-8, 7)
        return Int8(min(max((weight / step).rounded(.toNearestOrEven), low), high))
    }
}

/// A weight matrix on a grid: w ≈ scale · q · m.
struct GridWeights: Sendable, Equatable {
    /// [n, k], row-major: w8 of int8, q of int4.
    var values: [Int8]
    /// [n, ⌈K/groupSize⌉], K being k padded to 64, in ±1…15; empty for int8.
    var multipliers: [Int8]
}
