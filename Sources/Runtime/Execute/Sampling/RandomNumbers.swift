import LatheFormat

/// A counted stream of random numbers: the n-th depends on the seed and on n alone, so a request draws the same numbers
/// whoever runs beside it.
struct RandomNumbers: Sendable {
    private var words: SplitMix64

    init(seed: UInt64) { words = SplitMix64(seed: seed) }

    /// Uniform in [0, 1), a multiple of 2⁻²⁴.
    mutating func next() -> Float { Float(words.next() >> 40) * 0x1p-24 }
}
