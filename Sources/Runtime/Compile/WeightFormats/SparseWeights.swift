import LatheFormat

/// The panels of an int8 or int4 matrix without their zeros: a bit for each weight and the packed non-zeros
/// (docs/ARITHMETIC.md). Any format of quantized panels can be stored so; the numbers are the same.
///
/// Parts come one after the other, twice: to be counted, and to be packed.
struct SparseWeights {
    private let groupSize: Int?
    private let workspace: Workspace
    /// Bytes of each part's packed non-zeros.
    private var byteCounts: [Int] = []

    /// - Parameter encoding: of the dense parts.
    init(_ encoding: WeightEncoding, in workspace: Workspace) {
        groupSize = encoding.quantized!.groupSize
        self.workspace = workspace
    }

    mutating func count(_ part: EncodedMatrix) throws(LatheError) {
        byteCounts.append(try Packing.sparseByteCount(part, in: workspace))
    }

    /// Kernels read up to so many bytes behind the last non-zero.
    private static let tailByteCount = 64

    /// How the matrix lies in the file without its zeros.
    var encoding: QuantizedPanels {
        QuantizedPanels(
            groupSize: groupSize,
            packedByteCount: (byteCounts.reduce(0, +) + Self.tailByteCount).roundedUp(to: 64))
    }

    /// Panels start at 32-bit offsets.
    var isTooLarge: Bool { encoding.packedByteCount! > Int(UInt32.max) }

    /// Masks and starts, for behind the values.
    struct Index {
        var masks: [ByteView] = []
        var starts: [UInt32] = []
    }

    /// Packs the next of the parts; the first is `part` 0.
    /// - Parameter write: is given the bytes of its values.
    func pack(
        _ matrix: EncodedMatrix, part: Int, into index: inout Index, _ write: (ByteView) throws(LatheError) -> Void
    ) throws(LatheError) {
        let start = byteCounts[..<part].reduce(0, +)
        let packed = try Packing.packSparse(
            matrix, start: UInt32(start), byteCount: byteCounts[part], in: workspace)
        try write(packed.values)
        index.masks.append(packed.masks)
        index.starts += packed.starts
    }

    /// Zeros behind the last part's values.
    var tail: ByteView { AlignedBuffer(byteCount: encoding.packedByteCount! - byteCounts.reduce(0, +)).view }
}
