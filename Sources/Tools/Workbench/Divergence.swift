#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Two distributions over one vocabulary, compared in Double: a divergence of 1e-5 is a small difference of large sums.
package struct Divergence: Sendable {
    /// KL(reference ‖ model) = Σ p log(p / q) in nats, never below 0.
    package let nats: Double
    /// Whether both have their greatest logit at the same token; of equals the first counts.
    package let agrees: Bool
    /// −log p(token) and p(token) of the token that the text has.
    package let referenceLoss: Double
    package let modelLoss: Double
    package let referenceProbability: Double
    package let modelProbability: Double

    /// - Parameters:
    ///   - reference: logits, one for each token.
    ///   - model: as many.
    ///   - token: the one that the text has.
    package init(reference: Span<Float>, model: Span<Float>, token: Int) {
        precondition(reference.count == model.count && token < model.count)
        let likeliest = (reference: Self.likeliest(reference), model: Self.likeliest(model))
        let greatest = (
            reference: Double(reference[likeliest.reference]), model: Double(model[likeliest.model])
        )
        // With a = r − max r and b = m − max m: p = eᵃ / P, q = eᵇ / Q, and Σ p log(p / q) = Σ p (a − b) + log Q − log P.
        var sums = Sums()
        let whole = reference.count / Self.piece * Self.piece
        for start in stride(from: 0, to: whole, by: Self.piece) {
            sums.add(
                reference.extracting(start..<start + Self.piece), model.extracting(start..<start + Self.piece), greatest
            )
        }
        for index in whole..<reference.count {
            let a = Double(reference[index]) - greatest.reference
            let b = Double(model[index]) - greatest.model
            let weight = Self.exponential(a)
            sums.reference += weight
            sums.model += Self.exponential(b)
            sums.cross += weight * (a - b)
        }
        nats = max(0, sums.cross / sums.reference + log(sums.model) - log(sums.reference))
        agrees = likeliest.reference == likeliest.model
        referenceLoss = log(sums.reference) - (Double(reference[token]) - greatest.reference)
        modelLoss = log(sums.model) - (Double(model[token]) - greatest.model)
        referenceProbability = Self.exponential(Double(reference[token]) - greatest.reference) / sums.reference
        modelProbability = Self.exponential(Double(model[token]) - greatest.model) / sums.model
    }

    private struct Sums {
        var reference = 0.0
        var model = 0.0
        var cross = 0.0

        /// Adds `piece` logits. The exponentials stand in a loop without sums, which the compiler turns into vectors.
        @inline(__always)
        mutating func add(
            _ reference: Span<Float>, _ model: Span<Float>, _ greatest: (reference: Double, model: Double)
        ) {
            precondition(reference.count == piece && model.count == piece)
            var a = InlineArray<64, Double>(repeating: 0)
            var b = InlineArray<64, Double>(repeating: 0)
            var difference = InlineArray<64, Double>(repeating: 0)
            for index in 0..<piece {
                let x = Double(reference[index]) - greatest.reference
                let y = Double(model[index]) - greatest.model
                difference[index] = x - y
                a[index] = exponential(x)
                b[index] = exponential(y)
            }
            var sums = (SIMD4<Double>(), SIMD4<Double>(), SIMD4<Double>())
            for index in stride(from: 0, to: piece, by: 4) {
                for lane in 0..<4 {
                    sums.0[lane] += a[index + lane]
                    sums.1[lane] += b[index + lane]
                    sums.2[lane] += a[index + lane] * difference[index + lane]
                }
            }
            self.reference += sums.0.sum()
            self.model += sums.1.sum()
            cross += sums.2.sum()
        }
    }

    private static let piece = 64

    private static func likeliest(_ logits: Span<Float>) -> Int {
        var best = 0
        for index in logits.indices where logits[index] > logits[best] { best = index }
        return best
    }

    /// eˣ for x ≤ 0, within 1e-13 relative; e⁻⁷⁰⁰ below that, which no sum of distributions notices.
    @inline(__always)
    static func exponential(_ x: Double) -> Double {
        let x = x < -700 ? -700 : x
        // Adding 1.5·2⁵² rounds to the nearest integer and leaves it in the low bits.
        let shifted = x * 1.4426950408889634 + 0x1.8p52
        let n = shifted - 0x1.8p52
        // ln 2 in two parts, the first with so few bits that its product with n is exact (Cody and Waite 1980).
        let r = (x - n * 0x1.62E42FEEp-1) - n * 0x1.A39EF35793C76p-33
        // Taylor's series of degree 11: its rest is 7e-15 at |r| ≤ ln 2 / 2.
        var sum = 1.0 / 39_916_800
        sum = sum * r + 1.0 / 3_628_800
        sum = sum * r + 1.0 / 362_880
        sum = sum * r + 1.0 / 40_320
        sum = sum * r + 1.0 / 5_040
        sum = sum * r + 1.0 / 720
        sum = sum * r + 1.0 / 120
        sum = sum * r + 1.0 / 24
        sum = sum * r + 1.0 / 6
        sum = sum * r + 0.5
        sum = sum * r + 1
        sum = sum * r + 1
        let exponent = UInt64(
            truncatingIfNeeded: Int64(bitPattern: shifted.bitPattern) &- 0x4338_0000_0000_0000 &+ 1023)
        return sum * Double(bitPattern: exponent << 52)
    }
}
