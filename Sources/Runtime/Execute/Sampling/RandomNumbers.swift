/// A counted stream of random numbers: the n-th depends on the seed and on n alone (SplitMix64, Steele et al. 2014), so
/// a request draws the same numbers whoever runs beside it.
struct RandomNumbers: Sendable {
    private let seed: UInt64
    private var drawn: UInt64 = 0

    init(seed: UInt64) { self.seed = seed }

    /// Uniform in [0, 1), a multiple of 2⁻²⁴.
    mutating func next() -> Float {
        drawn &+= 1
        var z = seed &+ drawn &* 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        z ^= z >> 31
        return Float(z >> 40) * 0x1p-24
    }
}
