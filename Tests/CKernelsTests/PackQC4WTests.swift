import CKernels
import Testing

/// The choice of scales, multipliers and numbers for int4, and its layout.
@Suite struct PackQC4WTests {
    static let groupSizes = [32, 64, 128]
    static let shapes = [(1, 1), (3, 63), (16, 64), (17, 65), (33, 48), (20, 768), (5, 330)]

    /// What a packed matrix decodes to, [columns][depth].
    private struct Decoded {
        var q: [Int] = []
        var m: [Int] = []
        var scales: [Float]
        var encoded: EncodedWeights
        let groupSize: Int

        init(
            _ weights: [Float], columns: Int, depth: Int, groupSize: Int, importance: [Float]? = nil,
            transposed: Bool = false
        ) {
            let format = LinearQD8Format(kind: .qc4w, groupSize: groupSize)
            (encoded, scales) = format.pack(weights, columns: columns, depth: depth, importance: importance)
            self.groupSize = groupSize
            for n in 0..<columns {
                for k in 0..<depth {
                    q.append(nibble(n, k))
                    m.append(multiplier(n, k / groupSize))
                }
            }
        }

        /// By the formulas of the layout.
        func nibble(_ n: Int, _ k: Int) -> Int {
            let byte = encoded.values[(n / 16) * 8 * encoded.paddedDepth + (k / 8) * 64 + (n % 16) * 4 + k % 4]
            let nibble = Int(k % 8 < 4 ? byte & 15 : byte >> 4)
            return nibble < 8 ? nibble : nibble - 16
        }
        func multiplier(_ n: Int, _ g: Int) -> Int {
            let groups = (encoded.paddedDepth + groupSize - 1) / groupSize
            return Int(encoded.multipliers[(n / 16 * groups + g) * 16 + n % 16])
        }
        func weight(_ n: Int, _ k: Int) -> Double {
            let index = n * encoded.depth + k
            return Double(scales[n]) * Double(q[index] * m[index])
        }
        /// Σ importance·(w − ŵ)²
        func error(_ weights: [Float], importance: [Float]? = nil) -> Double {
            var error = 0.0
            for n in 0..<encoded.columns {
                for k in 0..<encoded.depth {
                    let rest = Double(weights[n * encoded.depth + k]) - weight(n, k)
                    error += Double(importance?[k] ?? 1) * rest * rest
                }
            }
            return error
        }
    }

    private static func normal(_ count: Int, seed: UInt64) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        // Twelve uniform numbers.
        return (0..<count).map { _ in generator.floats(12, in: -0.01...0.01).reduce(0, +) }
    }

    @Test(arguments: shapes, groupSizes) func everythingIsInRange(shape: (Int, Int), groupSize: Int) {
        let (columns, depth) = shape
        let packed = Decoded(
            Self.normal(columns * depth, seed: 1), columns: columns, depth: depth, groupSize: groupSize)
        let groups = (packed.encoded.paddedDepth + groupSize - 1) / groupSize
        for n in 0..<packed.encoded.paddedColumns {
            for g in 0..<groups {
                let m = packed.multiplier(n, g)
                #expect(n < columns && g * groupSize < depth ? (1...15).contains(abs(m)) : m == 1)
            }
            for k in 0..<packed.encoded.paddedDepth where n >= columns || k >= depth {
                #expect(packed.nibble(n, k) == 0)
            }
            let sum =
                n < columns ? (0..<depth).reduce(0) { $0 + packed.q[n * depth + $1] * packed.m[n * depth + $1] } : 0
            #expect(packed.encoded.columnSums[n] == Int32(sum))
            #expect(n < columns ? packed.scales[n] > 0 : packed.scales[n] == 1)
        }
    }

    /// Every number is the nearest that scale and multiplier give.
    @Test(arguments: groupSizes) func numbersAreTheNearest(groupSize: Int) {
        let (columns, depth) = (18, 300)
        let weights = Self.normal(columns * depth, seed: 2)
        let packed = Decoded(weights, columns: columns, depth: depth, groupSize: groupSize)
        for n in 0..<columns {
            for k in 0..<depth {
                let index = n * depth + k
                let step = Double(packed.scales[n]) * Double(packed.m[index])
                let exact = Double(weights[index]) / step
                let nearest = max(-8, min(7, exact))
                #expect(abs(Double(packed.q[index]) - nearest) < 0.5001)
            }
        }
    }

    /// Well below rounding to the greatest magnitude of each group with a scale in float32 for each, which costs seven times
    /// as many bits of scale. The bounds are the figures of normal data (.0825, .0904, .0967) with two hundredths to spare.
    @Test(arguments: zip(groupSizes, [0.084, 0.092, 0.099])) func normalWeightsLoseLittle(groupSize: Int, bound: Double)
    {
        let (columns, depth) = (48, 768)
        let weights = Self.normal(columns * depth, seed: 3)
        let packed = Decoded(weights, columns: columns, depth: depth, groupSize: groupSize)
        let size = weights.reduce(0.0) { $0 + Double($1) * Double($1) }
        let relative = (packed.error(weights) / size).squareRoot()
        var absmaxError = 0.0
        for start in stride(from: 0, to: weights.count, by: groupSize) {
            let group = weights[start..<start + groupSize]
            let step = Double(group.map(abs).max()!) / 7
            for w in group {
                let rest = Double(w) - (Double(w) / step).rounded(.toNearestOrEven) * step
                absmaxError += rest * rest
            }
        }
        #expect(relative < bound)
        #expect(relative < 0.95 * (absmaxError / size).squareRoot())
    }

    @Test func whatInt4HoldsExactlyIsKept() {
        // Scale 2⁻⁵, multipliers 3 and −15, of which −8·−15 is the largest weight.
        let (depth, groupSize) = (64, 32)
        let weights = (0..<depth).map { k -> Float in
            let q = k % 16 - 8
            return Float(q * (k < 32 ? 3 : -15)) / 32
        }
        let packed = Decoded(weights, columns: 1, depth: depth, groupSize: groupSize)
        #expect(packed.error(weights) < 1e-12)
    }

    @Test func importanceMovesTheErrorToWhatMattersLess() {
        let (columns, depth) = (20, 256)
        let weights = Self.normal(columns * depth, seed: 4)
        let importance = (0..<depth).map { Float($0 % 8 == 0 ? 100 : 1) }
        let plain = Decoded(weights, columns: columns, depth: depth, groupSize: 64)
        let weighted = Decoded(weights, columns: columns, depth: depth, groupSize: 64, importance: importance)
        #expect(weighted.error(weights, importance: importance) < 0.85 * plain.error(weights, importance: importance))
        #expect(weighted.error(weights) > plain.error(weights))
        // Only proportions count.
        let scaled = Decoded(
            weights, columns: columns, depth: depth, groupSize: 64, importance: importance.map { $0 * 1024 })
        #expect(scaled.q == weighted.q && scaled.m == weighted.m && scaled.scales == weighted.scales)
    }

    @Test func inputsThatAreNeverUsedDoNotMatter() {
        let weights = Self.normal(4 * 64, seed: 5)
        let packed = Decoded(
            weights, columns: 4, depth: 64, groupSize: 32, importance: [Float](repeating: 0, count: 64))
        let plain = Decoded(weights, columns: 4, depth: 64, groupSize: 32)
        #expect(packed.q == plain.q && packed.m == plain.m && packed.scales == plain.scales)
    }

    @Test func zerosStayZeros() {
        var weights = Self.normal(6 * 200, seed: 6)
        for i in weights.indices where i % 2 == 0 { weights[i] = i % 4 == 0 ? 0 : -0.0 }
        // A group, a column.
        for k in 64..<128 { weights[k] = 0 }
        for k in 0..<200 { weights[3 * 200 + k] = 0 }
        let packed = Decoded(weights, columns: 6, depth: 200, groupSize: 64)
        for i in weights.indices where weights[i] == 0 { #expect(packed.q[i] == 0) }
        for k in 64..<128 { #expect(packed.m[k] == 1) }
        for k in 0..<200 { #expect(packed.m[600 + k] == 1) }
        #expect(packed.scales[3] == 1)
    }

    @Test func anySizeOfWeightsWillDo() {
        let ordinary = Self.normal(3 * 100, seed: 7)
        let packed = Decoded(ordinary, columns: 3, depth: 100, groupSize: 32)
        for exponent in [-80, -60, 60, 120] as [Float] {
            let power = Float(sign: .plus, exponent: Int(exponent), significand: 1)
            let other = Decoded(ordinary.map { $0 * power }, columns: 3, depth: 100, groupSize: 32)
            #expect(other.q == packed.q && other.m == packed.m)
            #expect(zip(other.scales, packed.scales).prefix(3).allSatisfy { $0 == $1 * power })
        }
        let tiny = Decoded([Float.leastNonzeroMagnitude, -1e-38], columns: 1, depth: 2, groupSize: 32)
        #expect(tiny.q == [0, 0] && tiny.scales[0] == 1)
    }

    @Test(arguments: shapes, groupSizes) func theOrderInTheCheckpointDoesNotMatter(shape: (Int, Int), groupSize: Int) {
        let (columns, depth) = shape
        let weights = Self.normal(columns * depth, seed: 8)
        let rowMajor = Decoded(weights, columns: columns, depth: depth, groupSize: groupSize)
        var transposed = weights
        for n in 0..<columns { for k in 0..<depth { transposed[k * columns + n] = weights[n * depth + k] } }
        let source = GuardedBuffer(transposed)
        let values = GuardedBuffer(bytes: lathe_qc4w_bytes(columns, depth), alignment: 64)
        let multipliers = GuardedBuffer(bytes: lathe_qc4w_multiplier_bytes(columns, depth, groupSize))
        let scales = GuardedBuffer(bytes: rowMajor.scales.count * 4)
        let sums = GuardedBuffer(bytes: rowMajor.scales.count * 4)
        lathe_pack_qc4w(
            source.pointer(), 4, columns * 4, columns, depth, groupSize, nil, values.pointer(), multipliers.pointer(),
            scales.pointer(), sums.pointer())
        #expect(values.array(of: UInt8.self) == rowMajor.encoded.values)
        #expect(multipliers.array(of: Int8.self) == rowMajor.encoded.multipliers)
        #expect(scales.array(of: Float.self) == rowMajor.scales)
        #expect(sums.array(of: Int32.self) == rowMajor.encoded.columnSums)
    }

    @Test(arguments: shapes, groupSizes) func numbersChosenElsewhere(shape: (Int, Int), groupSize: Int) {
        let (columns, depth) = shape
        let packed = Decoded(
            Self.normal(columns * depth, seed: 9), columns: columns, depth: depth, groupSize: groupSize)
        let groups = lathe_qc4w_groups(depth, groupSize)
        let q = GuardedBuffer(packed.q.map { Int8($0) }, alignment: 1)
        let m = GuardedBuffer(
            (0..<columns).flatMap { n in (0..<groups).map { Int8(packed.multiplier(n, $0)) } }, alignment: 1)
        let values = GuardedBuffer(bytes: lathe_qc4w_bytes(columns, depth), alignment: 64)
        let multipliers = GuardedBuffer(bytes: lathe_qc4w_multiplier_bytes(columns, depth, groupSize))
        let sums = GuardedBuffer(bytes: packed.scales.count * 4)
        for buffer in [values, multipliers, sums] { buffer.fill(0x55) }
        lathe_pack_qc4w_values(
            q.pointer(), m.pointer(), columns, depth, groupSize, values.pointer(), multipliers.pointer(),
            sums.pointer())
        #expect(values.array(of: UInt8.self) == packed.encoded.values)
        #expect(multipliers.array(of: Int8.self) == packed.encoded.multipliers)
        #expect(sums.array(of: Int32.self) == packed.encoded.columnSums)
    }
}
