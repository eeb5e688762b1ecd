import CKernels
import Testing

/// The read probe reads all bytes and no others: its value is the wrapping sum of the 64-bit words, the last filled up
/// with zeros.
@Suite struct ProbeTests {
    static let levels: [UInt32] = [0, UInt32(LATHE_CPU_AVX2), lathe_cpu_features()].filter {
        $0 & ~lathe_cpu_features() == 0
    }

    @Test(arguments: levels, [true, false]) func sumsEveryByteOnce(features: UInt32, prefetch: Bool) {
        var generator = SeededGenerator(seed: 7)
        for bytes in [64, 512, 576, 4096, 4096 + 64, 65536 + 320, 1_000_000 / 64 * 64] {
            let words = (0..<bytes / 8).map { _ in generator.next() }
            let buffer = GuardedBuffer(words, alignment: 64)
            #expect(lathe_read_probe(buffer.base, bytes, prefetch, features) == words.reduce(0, &+))
        }
    }

    @Test func takesAnyCount() {
        let bytes = [UInt8](repeating: 1, count: 1024)
        let buffer = GuardedBuffer(bytes, alignment: 64, placement: .afterGuard)
        for count in 0...600 {
            let ones: UInt64 = 0x0101_0101_0101_0101
            let rest = ones & ((1 << UInt64(8 * (count % 8))) - 1)
            let expected = UInt64(count / 8) &* ones &+ rest
            #expect(lathe_read_probe(buffer.base, count, true, lathe_cpu_features()) == expected)
        }
    }
}
