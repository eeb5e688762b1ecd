import CKernels
import LatheFormat

/// A matrix in one of the quantized encodings, by the packing kernels.
struct PackedMatrix {
    /// T16 bytes or nibbles.
    private(set) var values: [UInt8]
    private(set) var scales: [Float]
    private(set) var columnSums: [Int32]
    private(set) var multipliers: [Int8]?
    /// Of sparse weights, their 64 zeros and padding included.
    private(set) var packed: (values: [UInt8], masks: [UInt64], starts: [UInt32])?

    /// - Parameter values: [columns][depth]. Of the encoding's sizes only the group's is used.
    init(_ parameter: Parameter, _ values: [Float]) {
        let encoding = parameter.encoding.quantized!
        let (columns, depth) = (parameter.columns, parameter.depth)
        let panels = (columns + 15) / 16
        let blocks = (depth + 63) / 64
        scales = [Float](repeating: 0, count: panels * 16)
        columnSums = [Int32](repeating: 0, count: panels * 16)
        if let size = encoding.groupSize {
            self.values = [UInt8](repeating: 0, count: lathe_qc4w_bytes(columns, depth))
            var multipliers = [Int8](repeating: 0, count: lathe_qc4w_multiplier_bytes(columns, depth, size))
            lathe_pack_qc4w(
                values, depth * 4, 4, columns, depth, size, nil, &self.values, &multipliers, &scales, &columnSums)
            multipliers += [Int8](repeating: 0, count: multipliers.count.roundedUp(to: 64) - multipliers.count)
            self.multipliers = multipliers
        } else {
            var panelBytes = [Int8](repeating: 0, count: panels * blocks * 1024)
            lathe_pack_qc8w(values, depth * 4, 4, columns, depth, &panelBytes, &scales, &columnSums)
            self.values = panelBytes.map { UInt8(bitPattern: $0) }
        }
        guard encoding.packedByteCount != nil else { return }
        let format = encoding.groupSize == nil ? LATHE_QC8W_SPARSE : LATHE_QC4W_SPARSE
        let count = lathe_sparse_bytes(format, self.values, columns, depth)
        var packed = [UInt8](repeating: 0, count: (count + 64).roundedUp(to: 64))
        var masks = [UInt64](repeating: 0, count: panels * blocks * 16)
        var starts = [UInt32](repeating: 0, count: panels.roundedUp(to: 16))
        lathe_pack_sparse(format, self.values, columns, depth, 0, &packed, &masks, &starts)
        self.packed = (packed, masks, starts)
    }

    /// In the order of `Parameter.parts`.
    var parts: [[UInt8]] {
        func bytes<T>(_ values: [T]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }
        var parts = [packed?.values ?? values, bytes(scales), bytes(columnSums)]
        if let multipliers { parts.append(bytes(multipliers)) }
        if let packed { parts += [bytes(packed.masks), bytes(packed.starts)] }
        return parts
    }
}

extension WeightEncoding {
    /// Every encoding of quantized weights; the sparse ones are told their size by `HandMadeModel`.
    static let everyQuantized: [WeightEncoding] = [
        .qc8w, .quantized(.init(groupSize: 32)), .quantized(.init(groupSize: 64)), .quantized(.init(groupSize: 128)),
        .quantized(.init(packedByteCount: 64)), .quantized(.init(groupSize: 64, packedByteCount: 64)),
        .quantized(.init(groupSize: 128, packedByteCount: 64)),
    ]
}
