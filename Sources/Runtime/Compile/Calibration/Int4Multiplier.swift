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
