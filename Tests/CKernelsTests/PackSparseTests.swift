import CKernels
import Testing

/// The packing of sparse weights, and the way back to dense ones.
@Suite struct PackSparseTests {
    static let formats = LinearQD8Format.all.filter(\.isSparse)
    static let shapes = [(1, 1), (3, 63), (16, 64), (17, 65), (33, 48), (130, 200), (48, 768)]

    /// A case by the formulas of the layout, and the dense values that it came from.
    private func example(_ format: LinearQD8Format, _ columns: Int, _ depth: Int, extremes: Bool = false)
        -> (sparse: EncodedWeights, dense: EncodedWeights)
    {
        var generator = SeededGenerator(seed: UInt64(columns * 1000 + depth))
        let sparse = format.encode(columns: columns, depth: depth, extremes: extremes, using: &generator)
        var dense = sparse
        guard format.groupSize != 0 else {
            dense.values = sparse.panels.map { UInt8(bitPattern: $0) }
            return (sparse, dense)
        }
        let padded = sparse.paddedDepth
        let groups = sparse.multipliers.count / sparse.paddedColumns
        dense.values = [UInt8](repeating: 0, count: sparse.paddedColumns * padded / 2)
        for n in 0..<columns {
            for k in 0..<depth {
                let m = sparse.multipliers[(n / 16 * groups + k / format.groupSize) * 16 + n % 16]
                let nibble = UInt8(bitPattern: sparse.w[n * depth + k] / m) & 15
                dense.values[(n / 16) * 8 * padded + (k / 8) * 64 + (n % 16) * 4 + k % 4] |=
                    k % 8 < 4 ? nibble : nibble << 4
            }
        }
        return (sparse, dense)
    }

    @Test(arguments: formats, shapes) func packsByTheFormulas(format: LinearQD8Format, shape: (Int, Int)) {
        for extremes in [false, true] {
            let (expected, dense) = example(format, shape.0, shape.1, extremes: extremes)
            let packed = dense.packedSparse(format.format)
            #expect(packed.values == expected.values)
            #expect(packed.masks == expected.masks)
            #expect(packed.starts == expected.starts)
        }
    }

    /// The converter packs a matrix in parts, each against what it may write.
    @Test(arguments: formats) func partsAreTheWhole(format: LinearQD8Format) {
        let (columns, depth) = (130, 200)
        let (expected, dense) = example(format, columns, depth)
        let panels = dense.paddedColumns / 16
        let (panelBytes, panelMasks) = (dense.values.count / panels, expected.masks.count / panels)
        var (values, masks, starts) = ([UInt8](), [UInt64](), [UInt32]())
        for first in stride(from: 0, to: panels, by: 2) {
            let part = first..<min(first + 2, panels)
            let source = GuardedBuffer(
                Array(dense.values[part.lowerBound * panelBytes..<part.upperBound * panelBytes]), alignment: 64)
            let bytes = lathe_sparse_bytes(format.format, source.base, part.count * 16, depth)
            let packed = GuardedBuffer(bytes: bytes, alignment: 1)
            let (partMasks, partStarts) = (
                GuardedBuffer(bytes: part.count * panelMasks * 8, alignment: 8), GuardedBuffer(bytes: part.count * 4)
            )
            packed.fill(0x55)
            lathe_pack_sparse(
                format.format, source.base, part.count * 16, depth, UInt32(values.count), packed.base,
                partMasks.pointer(), partStarts.pointer())
            values += packed.array(of: UInt8.self)
            masks += partMasks.array(of: UInt64.self)
            starts += partStarts.array(of: UInt32.self)
        }
        #expect(values + [UInt8](repeating: 0, count: 64) == expected.values)
        #expect(masks == expected.masks)
        #expect(starts == expected.starts)
    }

    @Test(arguments: formats) func zerosTakeNothing(format: LinearQD8Format) {
        let dense = [UInt8](repeating: 0, count: 32 * 128)
        #expect(lathe_sparse_bytes(format.format, dense, 32, 128) == 0)
        var masks = [UInt64](repeating: 0x5555, count: 64)
        var starts: [UInt32] = [0x5555, 0x5555]
        lathe_pack_sparse(format.format, dense, 32, 128, 7, nil, &masks, &starts)
        #expect(masks.allSatisfy { $0 == 0 })
        #expect(starts == [7, 7])
    }

    @Test(arguments: formats.filter { $0.groupSize != 0 }, shapes)
    func nibblesComeBack(format: LinearQD8Format, shape: (Int, Int)) {
        let (sparse, dense) = example(format, shape.0, shape.1)
        let scales = [Float](repeating: 1, count: sparse.paddedColumns)
        let panels = sparse.paddedColumns / 16
        let panelBytes = dense.values.count / panels
        for placement in GuardedBuffer.Placement.allCases {
            let weights = GuardedWeights(sparse, format, scales: scales, placement: placement)
            for range in [0..<panels, panels - 1..<panels, 0..<0] {
                let nibbles = GuardedBuffer(bytes: range.count * panelBytes, alignment: 64, placement: placement)
                withUnsafePointer(to: weights.weights) {
                    lathe_unpack_qc4w_sparse($0, range.lowerBound, range.upperBound, nibbles.pointer())
                }
                let expected = dense.values[range.lowerBound * panelBytes..<range.upperBound * panelBytes]
                #expect(nibbles.array(of: UInt8.self).elementsEqual(expected))
            }
        }
    }

    /// Sparse weights stay sparse where a vector kernel reads them and where nothing is vectorized; elsewhere they become
    /// what they would be without their zeros left out.
    @Test func whatStaysInMemory() {
        let vbmi2 = UInt32(LATHE_CPU_AVX2 | LATHE_CPU_AVX512 | LATHE_CPU_AVX512VNNI | LATHE_CPU_AVX512VBMI2)
        let isX86 = LinearQD8Kernels.table.contains { $0.features & UInt32(LATHE_CPU_AVX512) != 0 }
        for (sparse, dense) in [(LATHE_QC8W_SPARSE, LATHE_QC8W), (LATHE_QC4W_SPARSE, LATHE_QC4W)] {
            #expect(lathe_linear_qd8_resident_format(sparse, 0) == sparse)
            #expect(lathe_linear_qd8_resident_format(dense, vbmi2) == dense)
            if isX86 {
                #expect(lathe_linear_qd8_resident_format(sparse, vbmi2) == sparse)
                #expect(lathe_linear_qd8_resident_format(sparse, UInt32(LATHE_CPU_AVX2)) == dense)
                #expect(
                    lathe_linear_qd8_resident_format(sparse, vbmi2 & ~UInt32(LATHE_CPU_AVX512VBMI2)) == dense)
            }
        }
    }
}
