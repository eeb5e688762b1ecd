import CKernels
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The canonical functions against float64.
@Suite struct MathTests {
    /// Every 211th float of ±86.
    @Test func exponential() {
        var worst = 0.0
        for bits in stride(from: UInt32(0), through: Float(86).bitPattern, by: 211) {
            for x in [Float(bitPattern: bits), -Float(bitPattern: bits)] {
                let expected = exp(Double(x))
                worst = max(worst, abs(Double(lathe_exp(x)) - expected) / expected)
            }
        }
        #expect(worst <= 7.7e-8)
        #expect(lathe_exp(0) == 1 && lathe_exp(-0.0) == 1)
    }

    @Test func exponentialIsClampedAndKeepsNaN() {
        for x: Float in [86.5, 100, 1e30, .infinity] {
            #expect(lathe_exp(x) == lathe_exp(86))
            #expect(lathe_exp(-x) == lathe_exp(-86))
        }
        #expect(lathe_exp(-86).isNormal && lathe_exp(86).isFinite)
        #expect(lathe_exp(.nan).isNaN)
    }

    /// Every 211th normal float, and every float next to 1.
    @Test func logarithm() {
        var worst = 0.0
        func measure(_ x: Float) {
            let expected = log(Double(x))
            worst = max(worst, abs(Double(lathe_log(x)) - expected) / abs(expected))
        }
        let range = Float.leastNormalMagnitude.bitPattern...Float.greatestFiniteMagnitude.bitPattern
        for bits in stride(from: range.lowerBound, through: range.upperBound, by: 211) where bits != 0x3F80_0000 {
            measure(Float(bitPattern: bits))
        }
        for step in 1...5000 as ClosedRange<UInt32> {
            measure(Float(bitPattern: 0x3F80_0000 + step))
            measure(Float(bitPattern: 0x3F80_0000 - step))
        }
        #expect(worst <= 1e-7)
        #expect(lathe_log(1) == 0)
    }
}
