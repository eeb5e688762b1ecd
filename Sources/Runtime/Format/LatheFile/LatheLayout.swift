/// What makes a safetensors file a `.lathe` file.
///
/// - Its metadata has the keys below; the header's checksum comes first, at a fixed place.
/// - Length field and header take a multiple of 4096 bytes (the header is padded with spaces), and every tensor a multiple
///   of 64 (its last dimension is padded with zeros): so every tensor begins aligned to 64 bytes and there is no hole.
/// - Checksums are XXH64: of each tensor's bytes, padding included; and of the length field and the header, in which the
///   header checksum's own digits count as zeros.
enum LatheLayout {
    static let version = "1"
    static let operations = "2"
    static let checksum = "xxh64"

    static let versionKey = "lathe.version"
    static let operationsKey = "lathe.operations"
    static let checksumKey = "lathe.checksum"
    static let headerChecksumKey = "lathe.header_checksum"
    /// A JSON object: the name of each tensor and its checksum, sixteen hexadecimal digits.
    static let checksumsKey = "lathe.checksums"

    static let headerMultiple = 4096
    /// A cache line, and the widest vector.
    static let tensorMultiple = 64

    /// What stands before the header checksum's digits, from the start of the file's JSON.
    static let headerPrefix = Array(#"{"\#(SafetensorsHeader.metadataKey)":{"\#(headerChecksumKey)":""#.utf8)
    static let headerChecksumOffset = 8 + headerPrefix.count
    static let checksumDigits = 16

    /// - Parameter header: the length field and the JSON.
    static func headerChecksum(_ header: ByteView) -> UInt64 {
        let end = headerChecksumOffset + checksumDigits
        var hash = XXH64()
        hash.update(header.slice(offset: 0, count: headerChecksumOffset))
        hash.update(ByteView(copying: [UInt8](repeating: UInt8(ascii: "0"), count: checksumDigits)))
        hash.update(header.slice(offset: end, count: header.count - end))
        return hash.digest()
    }

    /// The tensor as it lies in the file: its last dimension is the next at which the bytes are a multiple of 64. Traps on a
    /// scalar, which has none (declare [1]), and on rows that end within a byte.
    static func padded(_ tensor: TensorDeclaration) -> TensorDeclaration {
        if tensor.byteCount % tensorMultiple == 0 { return tensor }
        guard let last = tensor.shape.last else {
            preconditionFailure("the scalar \(quoted(tensor.name)) cannot be padded; declare it as [1]")
        }
        let rows = tensor.shape.dropLast().reduce(1, *)
        precondition(
            rows == 1 || last * tensor.dtype.bitWidth % 8 == 0, "rows of \(quoted(tensor.name)) end within a byte")
        // 64 bytes are 512 bits: a power of two, so that only the factors of two in a column's bits matter.
        let bits = rows * tensor.dtype.bitWidth
        let step = 512 >> min(9, bits.trailingZeroBitCount)
        let shape = tensor.shape.dropLast() + [(last + step - 1) / step * step]
        return TensorDeclaration(name: tensor.name, dtype: tensor.dtype, shape: Array(shape))
    }
}
