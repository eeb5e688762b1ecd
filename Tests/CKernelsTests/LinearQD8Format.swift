import CKernels

/// A weight format under test, and how weights of it are made: a new format is a case of `all` and of `encode`.
struct LinearQD8Format: Hashable, Sendable, CustomStringConvertible {
    enum Kind: String {
        case qc8w, qc4w
        case qc8wSparse = "qc8w_sparse"
        case qc4wSparse = "qc4w_sparse"
    }

    var kind: Kind
    var groupSize = 0

    static let qc8w = LinearQD8Format(kind: .qc8w)
    static let all =
        [qc8w, LinearQD8Format(kind: .qc8wSparse)]
        + [Kind.qc4w, .qc4wSparse].flatMap { kind in
            [32, 64, 128].map { LinearQD8Format(kind: kind, groupSize: $0) }
        }

    var format: lathe_weight_format {
        switch kind {
        case .qc8w: LATHE_QC8W
        case .qc4w: LATHE_QC4W
        case .qc8wSparse: LATHE_QC8W_SPARSE
        case .qc4wSparse: LATHE_QC4W_SPARSE
        }
    }
    /// What is stored where nothing is left out.
    var dense: LinearQD8Format { groupSize == 0 ? .qc8w : LinearQD8Format(kind: .qc4w, groupSize: groupSize) }
    var isSparse: Bool { self != dense }
    var description: String { groupSize == 0 ? kind.rawValue : "\(kind.rawValue) by \(groupSize)" }

    func embed(of kernel: lathe_vector_kernel) -> lathe_embedding_fn {
        switch kind {
        case .qc8w: kernel.embed_qd8.0!
        case .qc4w: kernel.embed_qd8.1!
        case .qc8wSparse: kernel.embed_qd8.2!
        case .qc4wSparse: kernel.embed_qd8.3!
        }
    }

    /// The greatest magnitude of a weight.
    var largest: Int { groupSize == 0 ? 127 : 120 }

    /// Random weights, or where `extremes` whole columns of the largest and of the least weight in turn. Of sparse weights,
    /// some vectors and panels are empty, some full, and most somewhere between, unless `extremes`.
    func encode(columns: Int, depth: Int, extremes: Bool = false, using generator: inout SeededGenerator)
        -> EncodedWeights
    {
        switch kind {
        case .qc8w: encodeQC8W(columns: columns, depth: depth, extremes: extremes, using: &generator)
        case .qc4w: encodeQC4W(columns: columns, depth: depth, extremes: extremes, using: &generator)
        case .qc8wSparse, .qc4wSparse:
            encodeSparse(columns: columns, depth: depth, extremes: extremes, using: &generator)
        }
    }

    private func encodeQC8W(columns: Int, depth: Int, extremes: Bool, using generator: inout SeededGenerator)
        -> EncodedWeights
    {
        var encoded = EncodedWeights(columns: columns, depth: depth)
        for n in 0..<columns {
            for k in 0..<depth {
                encoded.w[n * depth + k] =
                    extremes ? (n % 2 == 0 ? 127 : -127) : Int8.random(in: -127...127, using: &generator)
            }
        }
        encoded.values = encoded.panels.map { UInt8(bitPattern: $0) }
        return encoded
    }

    /// By the formulas of the layout, apart from the packing code.
    private func encodeQC4W(columns: Int, depth: Int, extremes: Bool, using generator: inout SeededGenerator)
        -> EncodedWeights
    {
        var encoded = EncodedWeights(columns: columns, depth: depth)
        let padded = encoded.paddedDepth
        let groups = (padded + groupSize - 1) / groupSize
        encoded.values = [UInt8](repeating: 0, count: encoded.paddedColumns * padded / 2)
        encoded.multipliers = [Int8](repeating: 1, count: encoded.paddedColumns * groups)
        for n in 0..<columns {
            let multipliers = (0..<groups).map { _ -> Int8 in
                // −8·−15 and −8·15.
                if extremes { return n % 2 == 0 ? -15 : 15 }
                return Int8.random(in: 1...15, using: &generator) * (Bool.random(using: &generator) ? 1 : -1)
            }
            for g in 0..<groups { encoded.multipliers[(n / 16 * groups + g) * 16 + n % 16] = multipliers[g] }
            for k in 0..<depth {
                let q = extremes ? -8 : Int8.random(in: -8...7, using: &generator)
                encoded.w[n * depth + k] = q * multipliers[k / groupSize]
                let nibble = UInt8(bitPattern: q) & 15
                encoded.values[(n / 16) * 8 * padded + (k / 8) * 64 + (n % 16) * 4 + k % 4] |=
                    k % 8 < 4 ? nibble : nibble << 4
            }
        }
        return encoded
    }
}

extension LinearQD8Format {
    /// Floats [columns][depth] by the packing code, and their scales.
    func pack(_ weights: [Float], columns: Int, depth: Int, importance: [Float]? = nil) -> (EncodedWeights, [Float]) {
        var encoded = EncodedWeights(columns: columns, depth: depth)
        var scales = [Float](repeating: -1, count: encoded.paddedColumns)
        var sums = [Int32](repeating: -1, count: encoded.paddedColumns)
        switch kind {
        case .qc8w:
            var panels = [Int8](repeating: 0x55, count: lathe_qc8w_bytes(columns, depth))
            lathe_pack_qc8w(weights, depth * 4, 4, columns, depth, &panels, &scales, &sums)
            encoded.values = panels.map { UInt8(bitPattern: $0) }
        case .qc4w:
            encoded.values = [UInt8](repeating: 0x55, count: lathe_qc4w_bytes(columns, depth))
            encoded.multipliers = [Int8](
                repeating: 0x55, count: lathe_qc4w_multiplier_bytes(columns, depth, groupSize))
            lathe_pack_qc4w(
                weights, depth * 4, 4, columns, depth, groupSize, importance, &encoded.values, &encoded.multipliers,
                &scales, &sums)
        case .qc8wSparse, .qc4wSparse:
            // About half of the weights are left out.
            let (packed, scales) = dense.pack(
                weights.map { abs($0) < 0.5 ? 0 : $0 }, columns: columns, depth: depth, importance: importance)
            return (packed.packedSparse(format), scales)
        }
        encoded.packedSums = sums
        return (encoded, scales)
    }
}

/// A weight matrix as int8, and as a format stores it.
struct EncodedWeights {
    let columns, depth: Int
    var w: [Int8]  // [columns][depth]; zeros where the packing code made the rest
    /// Where the packing code made the rest, its column sums.
    var packedSums: [Int32]?
    var values: [UInt8] = []
    var multipliers: [Int8] = []
    var masks: [UInt64] = []
    var starts: [UInt32] = []

    init(columns: Int, depth: Int) {
        (self.columns, self.depth) = (columns, depth)
        w = [Int8](repeating: 0, count: columns * depth)
    }

    var paddedColumns: Int { (columns + 15) / 16 * 16 }
    var paddedDepth: Int { (depth + 63) / 64 * 64 }

    /// The formula of T16, apart from the packing code.
    var panels: [Int8] {
        var panels = [Int8](repeating: 0, count: paddedColumns * paddedDepth)
        for n in 0..<columns {
            for k in 0..<depth {
                let block = ((n / 16) * (paddedDepth / 64) + k / 64) * 1024
                panels[block + ((k % 64) / 4) * 64 + (n % 16) * 4 + k % 4] = w[n * depth + k]
            }
        }
        return panels
    }

    var columnSums: [Int32] {
        if let packedSums { return packedSums }
        return (0..<paddedColumns).map { n in
            n < columns ? w[n * depth..<(n + 1) * depth].reduce(Int32(0)) { $0 + Int32($1) } : 0
        }
    }
}

/// Encoded weights against guard pages.
final class GuardedWeights {
    private let format: LinearQD8Format
    private let columns, depth: Int
    private let values, scales, sums, multipliers, masks, starts: GuardedBuffer

    init(_ encoded: EncodedWeights, _ format: LinearQD8Format, scales: [Float], placement: GuardedBuffer.Placement) {
        self.format = format
        (columns, depth) = (encoded.columns, encoded.depth)
        // Sparse values may be read up to their 64 zeros' end, wherever that lies.
        values = GuardedBuffer(encoded.values, alignment: format.isSparse ? 1 : 64, placement: placement)
        self.scales = GuardedBuffer(scales, placement: placement)
        sums = GuardedBuffer(encoded.columnSums, placement: placement)
        multipliers = GuardedBuffer(encoded.multipliers, alignment: 16, placement: placement)
        masks = GuardedBuffer(encoded.masks, alignment: 8, placement: placement)
        starts = GuardedBuffer(encoded.starts, placement: placement)
    }

    var weights: lathe_weights {
        var weights = lathe_weights()
        weights.format = format.format
        (weights.columns, weights.depth) = (columns, depth)
        weights.values = UnsafeRawPointer(values.base)
        weights.scales = UnsafePointer(scales.pointer(to: Float.self))
        weights.column_sums = UnsafePointer(sums.pointer(to: Int32.self))
        weights.multipliers = UnsafePointer(multipliers.pointer(to: Int8.self))
        weights.group_size = format.groupSize
        weights.masks = UnsafePointer(masks.pointer(to: UInt64.self))
        weights.starts = UnsafePointer(starts.pointer(to: UInt32.self))
        return weights
    }
}
