import LatheFormat

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// Elementary functions of the reference, to about float32's own precision, in loops that the compiler turns into vectors.
enum ReferenceMath {
    /// eˣ within 3e-7 relative for |x| ≤ 87; beyond, the value at the bound.
    @inline(__always)
    static func exponential(_ x: Float) -> Float {
        let x = x < -87 ? -87 : (x > 87 ? 87 : x)
        // Adding 1.5·2²³ rounds to the nearest integer and leaves it in the low bits.
        let shifted = x * 1.442695041 + 12_582_912
        let n = shifted - 12_582_912
        // ln 2 in two parts, the first with so few bits that its product with n is exact (Cody and Waite 1980).
        let r = (x - n * 0.693359375) + n * 2.12194440e-4
        // Taylor's series of degree 7: its rest is 5e-9 at |r| ≤ ln 2 / 2.
        var sum: Float = 1 / 5040
        sum = sum * r + 1 / 720
        sum = sum * r + 1 / 120
        sum = sum * r + 1 / 24
        sum = sum * r + 1 / 6
        sum = sum * r + 0.5
        sum = (sum * r) * r + r + 1
        let exponent = Int32(bitPattern: shifted.bitPattern) &- 0x4B40_0000
        return sum * Float(bitPattern: UInt32(bitPattern: (exponent &+ 127) << 23))
    }

    static func activate(_ x: inout MutableSpan<Float>, _ activation: Activation) {
        switch activation {
        case .relu:
            for index in x.indices { x[index] = max(x[index], 0) }
        case .geluErf:
            // erf of the C library: the graph's rarest function need not be fast.
            for index in x.indices { x[index] *= 0.5 * (1 + erff(x[index] * 0.707106781)) }
        case .geluTanh:
            // (1 + tanh z)/2 = 1/(1 + e⁻²ᶻ)
            for index in x.indices {
                let value = x[index]
                let z = 1.595769122 * (value + 0.044715 * value * value * value)
                x[index] = value / (1 + exponential(-z))
            }
        }
    }

    /// Replaces `count` scores from `start` on by their softmax, and the rest of the row of `width` by zeros.
    static func softmax(_ x: inout MutableSpan<Float>, start: Int, count: Int, width: Int) {
        var greatest = x[start]
        for index in start..<start + count { greatest = max(greatest, x[index]) }
        for index in start..<start + count { x[index] = exponential(x[index] - greatest) }
        var sum = 0.0
        for index in start..<start + count { sum += Double(x[index]) }
        let factor = Float(1 / sum)
        for index in start..<start + count { x[index] *= factor }
        for index in start + count..<start + width { x[index] = 0 }
    }
}
