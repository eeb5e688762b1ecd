import LatheFormat
import Testing

@testable import Lathe

@Suite struct RankedKeysTests {
    /// Sizes on both sides of where the ways of sorting change, used one after the other so that buffers are used again.
    @Test func ordersAsAComparingSort() {
        var ranked = RankedKeys(capacity: 50_257)
        var random = SplitMix64(seed: 3)
        for count in [5000, 0, 1, 2, 32, 33, 300, 1024, 1025, 3000, 50_257, 2000, 40] {
            ranked.removeAll()
            var expected: [UInt64] = []
            for id in 0..<UInt32(count) {
                // Many ties, and every bit of a rank in use.
                let word = random.next()
                let rank = word & 1 == 0 ? UInt32(truncatingIfNeeded: word >> 32) : UInt32(word >> 60)
                ranked.append(rank: rank, id: id)
                expected.append(UInt64(rank) << 32 | UInt64(id))
            }
            ranked.sort()
            #expect(ranked.keys == expected.sorted())
        }
    }
}
