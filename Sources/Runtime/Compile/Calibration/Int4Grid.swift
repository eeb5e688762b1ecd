import LatheFormat

/// Which multiplier suits a group of weights.
enum Int4Multiplier {
    /// The multiplier m in ±1…15 with the least Σ importance·(w − scale·m·q)², q in −8…7; of equals the smaller, the
    /// positive one first. 1 for a group of zeros.
    ///
    /// - Parameters:
    ///   - weights: the group, zeros behind the matrix's last input.
    ///   - importance: of each weight, not negative.
    static func choose(
        _ weights: Span<SIMD16<Float>>, importance: Span<SIMD16<Float>>, scale: Float
    ) -> (multiplier: Int8, error: Float) {
        var best: (multiplier: Int8, error: Float) = (1, .infinity)
        for magnitude in 1...15 {
            let step = scale * Float(magnitude)
            let (positive, negative) = errors(weights, importance: importance, inverse: 1 / step)
            if positive * step * step < best.error { best = (Int8(magnitude), positive * step * step) }
            if negative * step * step < best.error { best = (-Int8(magnitude), negative * step * step) }
        }
        return best
    }

    /// The weighted squared errors in steps for both signs of a multiplier: of w/step held in −8…7, and in −7…8.
    @inline(__always)
    private static func errors(
        _ weights: Span<SIMD16<Float>>, importance: Span<SIMD16<Float>>, inverse: Float
    ) -> (Float, Float) {
        var positive = SIMD16<Float>.zero
        var negative = SIMD16<Float>.zero
        for index in weights.indices {
            let x = weights[index] * inverse
            // Adding 1.5·2²³ rounds to the nearest integer.
            let bounded = x.clamped(lowerBound: .init(repeating: -8), upperBound: .init(repeating: 8))
            let rounded = (bounded + 12_582_912) - 12_582_912
            let a = x - rounded.replacing(with: 7, where: rounded .> 7)
            let b = x - rounded.replacing(with: -7, where: rounded .< -7)
            positive += a * a * importance[index]
            negative += b * b * importance[index]
        }
        return (positive.sum(), negative.sum())
    }
}

extension WeightGrid {
    /// Of int4, each output's scale by the least weighted squared error, of some shares of the greatest magnitude.
    ///
    /// - Parameter importance: of each input, [k], such as `GPTQ.costs`.
    package static func int4(
        _ weights: FloatMatrix, groupSize: Int, importance: [Float], threads: Int
    ) -> WeightGrid {
        precondition(importance.count == weights.columns)
        let groups = (weights.columns + groupSize - 1) / groupSize
        let vectors = groupSize / 16
        let importance = (0..<groups * vectors).map {
            SIMD16<Float>.load(importance.span, from: $0 * 16, count: weights.columns - $0 * 16)
        }
        var scales = [Float](repeating: 1, count: weights.rows)
        forEachBlock(of: &scales, FloatMatrix.rowBlocks(rows: weights.rows, columns: 1, size: 64), threads: threads) {
            block, scales in
            for index in scales.indices {
                let row = block * 64 + index
                let greatest = weights.greatestMagnitude(ofRow: row)
                guard greatest >= 0x1p-100 else { continue }
                let vectors = (0..<groups * vectors).map {
                    SIMD16<Float>.load(
                        weights.elements.span, from: row * weights.columns + $0 * 16, count: weights.columns - $0 * 16)
                }
                scales[index] = scale(vectors, importance: importance, groups: groups, greatest: greatest)
            }
        }
        return WeightGrid(scales: scales, groupSize: groupSize)
    }

    private static func scale(
        _ weights: [SIMD16<Float>], importance: [SIMD16<Float>], groups: Int, greatest: Float
    ) -> Float {
        let size = weights.count / groups
        var best: (scale: Float, error: Float) = (greatest / 120, .infinity)
        // q·m reaches 120; clipping pays, and a coarser grid sometimes.
        for step in 0..<12 {
            let scale = greatest / 120 * (0.55 + 0.05 * Float(step))
            var error: Float = 0
            for group in 0..<groups where error < best.error {
                let range = group * size..<(group + 1) * size
                error +=
                    Int4Multiplier.choose(
                        weights.span.extracting(range), importance: importance.span.extracting(range), scale: scale
                    ).error
            }
            if error < best.error { best = (scale, error) }
        }
        return best.scale
    }
}
