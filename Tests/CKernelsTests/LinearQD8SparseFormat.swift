import CKernels

extension LinearQD8Format {
    /// Dense weights of which a part is left out, by the formulas of the layout, apart from the packing code.
    func encodeSparse(columns: Int, depth: Int, extremes: Bool, using generator: inout SeededGenerator)
        -> EncodedWeights
    {
        var encoded = dense.encode(columns: columns, depth: depth, extremes: extremes, using: &generator)
        if !extremes { prune(&encoded, using: &generator) }
        encoded.makeSparse(isInt4: groupSize != 0)
        return encoded
    }

    /// Zeros of the weights in `w` and in the dense values. The chance of each is one number for a 64-byte vector; every
    /// fifth panel is empty, the next is full.
    private func prune(_ encoded: inout EncodedWeights, using generator: inout SeededGenerator) {
        let padded = encoded.paddedDepth
        for panel in 0..<encoded.paddedColumns / 16 {
            for vector in 0..<padded / 4 {
                let share: Int =
                    switch (panel % 5, Int.random(in: 0..<8, using: &generator)) {
                    case (1, _), (_, 0): 100
                    case (2, _), (_, 1): 0
                    default: Int.random(in: 0...100, using: &generator)
                    }
                for place in 0..<64 where Int.random(in: 0..<100, using: &generator) < share {
                    let (n, k) = (panel * 16 + place / 4, vector * 4 + place % 4)
                    guard n < encoded.columns, k < encoded.depth else { continue }
                    encoded.w[n * encoded.depth + k] = 0
                    if groupSize == 0 {
                        encoded.values[panel * 16 * padded + vector * 64 + place] = 0
                    } else {
                        encoded.values[panel * 8 * padded + vector / 2 * 64 + place] &= vector % 2 == 0 ? 0xF0 : 0x0F
                    }
                }
            }
        }
    }
}

extension EncodedWeights {
    /// Replaces dense values by the sparse ones: exactly 64 zeros end them.
    mutating func makeSparse(isInt4: Bool) {
        let vectorsOfPanel = paddedDepth / 4
        let vectors = paddedColumns / 16 * vectorsOfPanel
        var packed: [UInt8] = []
        for first in stride(from: 0, to: vectors, by: 2) {
            if first % vectorsOfPanel == 0 { starts.append(UInt32(packed.count)) }
            // The two vectors' non-zeros, int8 or nibbles.
            let pair = (first..<first + 2).map { vector in
                (0..<64).map { place -> UInt8 in
                    guard isInt4 else { return values[vector * 64 + place] }
                    return vector % 2 == 0 ? values[vector / 2 * 64 + place] & 15 : values[vector / 2 * 64 + place] >> 4
                }
            }
            for vector in pair {
                masks.append(vector.enumerated().reduce(0) { $0 | ($1.element == 0 ? 0 : 1 << UInt64($1.offset)) })
            }
            let (a, b) = (pair[0].filter { $0 != 0 }, pair[1].filter { $0 != 0 })
            if isInt4 {
                packed += (0..<max(a.count, b.count)).map { j in
                    (j < a.count ? a[j] : 0) | (j < b.count ? b[j] << 4 : 0)
                }
            } else {
                packed += a + b
            }
        }
        values = packed + [UInt8](repeating: 0, count: 64)
    }

    /// Dense weights of a format as the packing code makes them sparse.
    func packedSparse(_ format: lathe_weight_format) -> EncodedWeights {
        var sparse = self
        let count = lathe_sparse_bytes(format, values, columns, depth)
        sparse.values = [UInt8](repeating: 0x55, count: count) + [UInt8](repeating: 0, count: 64)
        sparse.masks = [UInt64](repeating: 0x5555, count: paddedColumns / 16 * paddedDepth / 4)
        sparse.starts = [UInt32](repeating: 0x5555, count: paddedColumns / 16)
        lathe_pack_sparse(format, values, columns, depth, 0, &sparse.values, &sparse.masks, &sparse.starts)
        return sparse
    }
}
