import LatheFormat

/// The panels of an int8 or int4 matrix without their zeros: a bit for each weight and the packed non-zeros
/// (docs/ARITHMETIC.md). Any format of quantized panels can be stored so; the numbers are the same.
struct SparseWeights {
    /// Dense and quantized, one after the other.
    private let parts: [EncodedMatrix]
    /// Bytes of each part's packed non-zeros.
    private let byteCounts: [Int]

    init(_ parts: [EncodedMatrix], threads: Int) {
        self.parts = parts
        byteCounts = parts.map { Packing.sparseByteCount($0, threads: threads) }
    }

    /// Kernels read up to so many bytes behind the last non-zero.
    private static let tailByteCount = 64

    /// How the matrix lies in the file without its zeros.
    var encoding: QuantizedPanels {
        QuantizedPanels(
            groupSize: parts[0].encoding.quantized!.groupSize,
            packedByteCount: (byteCounts.reduce(0, +) + Self.tailByteCount).roundedUp(to: 64))
    }

    /// Panels start at 32-bit offsets.
    var isTooLarge: Bool { encoding.packedByteCount! > Int(UInt32.max) }

    /// Masks and starts, for behind the values.
    struct Index {
        var masks: [ByteView] = []
        var starts: [UInt32] = []
    }

    /// Hands the bytes of the values to `write`.
    func packValues(_ write: (ByteView) throws(LatheError) -> Void) throws(LatheError) -> Index {
        var index = Index()
        var start = 0
        for (part, byteCount) in zip(parts, byteCounts) {
            let packed = Packing.packSparse(part, start: UInt32(start), byteCount: byteCount)
            try write(packed.values)
            index.masks.append(packed.masks)
            index.starts += packed.starts
            start += byteCount
        }
        try write(AlignedBuffer(byteCount: encoding.packedByteCount! - start).view)
        return index
    }
}
