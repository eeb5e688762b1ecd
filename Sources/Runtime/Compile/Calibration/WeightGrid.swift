import LatheFormat

/// The numbers that a weight matrix may take: of each output a scale, and integers −127…127 or, with groups, the products of
/// q in −8…7 and a group's multiplier in ±1…15 (docs/ARITHMETIC.md).
package struct WeightGrid: Sendable {
    /// [n], positive.
    package var scales: [Float]
    /// int4: consecutive inputs that share a multiplier. nil: int8.
    package var groupSize: Int?

    package init(scales: [Float], groupSize: Int? = nil) {
        precondition(scales.allSatisfy { $0 > 0 && $0.isFinite }, "scales are positive")
        precondition(groupSize == nil || QuantizedPanels.groupSizes.contains(groupSize!))
        self.scales = scales
        self.groupSize = groupSize
    }

    /// Multipliers of one output: inputs are padded to 64. 0 for int8.
    func groups(inputs: Int) -> Int { groupSize.map { (inputs.roundedUp(to: 64) + $0 - 1) / $0 } ?? 0 }

    /// Of int8, the grid that the packer takes: the greatest magnitude is 127 steps, 1 a step where there is none.
    package static func int8(_ weights: FloatMatrix) -> WeightGrid {
        WeightGrid(
            scales: (0..<weights.rows).map { row in
                let greatest = weights.greatestMagnitude(ofRow: row)
                return greatest < 0x1p-100 ? 1 : greatest / 127
            })
    }
}

/// A weight matrix on a grid: w8 = q·m, ŵ = scale·w8.
package struct GridWeights: Sendable, Equatable {
    package let rows: Int
    package let columns: Int
    /// [n, k], row-major: w8 of int8, q of int4.
    package var values: [Int8]
    /// [n, ⌈K/groupSize⌉], K being k padded to 64, in ±1…15; empty for int8.
    package var multipliers: [Int8]
    /// [n]
    package var scales: [Float]
    package let groupSize: Int?

    package var groups: Int { groupSize.map { (columns.roundedUp(to: 64) + $0 - 1) / $0 } ?? 0 }

    /// The weights that the engine will multiply by, [n, k].
    package var dequantized: FloatMatrix {
        var result = FloatMatrix(rows: rows, columns: columns)
        var target = result.elements.mutableSpan
        for row in 0..<rows {
            let scale = scales[row]
            for column in 0..<columns {
                var value = Int(values[row * columns + column])
                if let groupSize { value *= Int(multipliers[row * groups + column / groupSize]) }
                target[row * columns + column] = Float(value) * scale
            }
        }
        return result
    }
}

extension FloatMatrix {
    func greatestMagnitude(ofRow row: Int) -> Float {
        let span = elements.span
        var greatest: Float = 0
        for index in row * columns..<(row + 1) * columns { greatest = max(greatest, abs(span[index])) }
        return greatest
    }
}

extension WeightGrid {
    /// `weights` rounded to the nearest points of the grid, each by itself; of int4 with the multipliers that err least.
    package func rounded(_ weights: FloatMatrix, importance: [Float]? = nil) -> GridWeights {
        let k = weights.columns
        let groups = groups(inputs: k)
        var result = GridWeights(
            rows: weights.rows, columns: k, values: [Int8](repeating: 0, count: weights.rows * k),
            multipliers: [Int8](repeating: 1, count: weights.rows * groups), scales: scales, groupSize: groupSize)
        let equal = [SIMD16<Float>](repeating: .init(repeating: 1), count: (groupSize ?? 0) / 16)
        for row in 0..<weights.rows {
            for start in stride(from: 0, to: k, by: groupSize ?? k) {
                let end = min(start + (groupSize ?? k), k)
                var step = scales[row]
                if let groupSize {
                    let group = (0..<groupSize / 16).map {
                        SIMD16<Float>.load(
                            weights.elements.span, from: row * k + start + $0 * 16, count: end - start - $0 * 16)
                    }
                    let multiplier = Int4Multiplier.choose(group.span, importance: (importance == nil ? equal : (0..<groupSize / 16).map { SIMD16<Float>.load(importance!.span, from: start + $0 * 16, count: end - start - $0 * 16) }).span, scale: step).multiplier
                    result.multipliers[row * groups + start / groupSize] = multiplier
                    step *= Float(multiplier)
                }
                for column in start..<end {
                    result.values[row * k + column] = nearest(weights[row, column], step: step)
                }
            }
        }
        return result
    }

    /// The nearest integer of the grid's range.
    @inline(__always)
    func nearest(_ weight: Float, step: Float) -> Int8 {
        let (low, high): (Float, Float) = groupSize == nil ? (-127, 127) : (-8, 7)
        return Int8(min(max((weight / step).rounded(.toNearestOrEven), low), high))
    }
}
