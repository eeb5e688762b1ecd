/// The header of a safetensors file: eight bytes of little-endian length, then that many bytes of JSON, then the tensors'
/// bytes without hole or overlap up to the end of the file.
///
/// Read as the safetensors crate reads it, except that duplicate keys are refused, and that an entry must be an object.
struct SafetensorsHeader {
    /// The crate's limit (`MAX_HEADER_SIZE`).
    static let maximumByteCount = 100_000_000
    static let metadataKey = "__metadata__"

    /// Where the tensors' bytes begin: the length field and the JSON.
    let byteCount: Int
    let metadata: [String: String]
    /// In the order of their bytes.
    let tensors: [TensorInfo]

    // MARK: Reading

    /// - Parameter start: the file's first bytes, at least `min(512, fileByteCount)`.
    /// - Returns: the length of the JSON, checked.
    static func length(start: ByteView, fileByteCount: Int, source: String) throws(LatheError) -> Int {
        if let other = foreignFormat(start) {
            throw LatheError(.corrupt, "\(quoted(source)) is no safetensors file: \(other)")
        }
        guard start.count >= 8 else {
            throw LatheError(
                .corrupt,
                "\(quoted(source)) has \(fileByteCount) bytes, too few for a safetensors file; fetch it again.")
        }
        let length = UInt64(littleEndian: start.load(0, as: UInt64.self))
        guard length <= UInt64(maximumByteCount) else {
            throw LatheError(
                .corrupt,
                "\(quoted(source)) is no safetensors file: its header would have \(length) bytes, and "
                    + "\(maximumByteCount) are allowed.")
        }
        guard Int(length) <= fileByteCount - 8 else {
            throw LatheError(
                .corrupt,
                "\(quoted(source)) is truncated: its header of \(length) bytes goes beyond the file's \(fileByteCount) "
                    + "bytes; fetch it again.")
        }
        return Int(length)
    }

    /// - Parameter json: the header's bytes behind the length field.
    static func parse(_ json: ByteView, fileByteCount: Int, source: String) throws(LatheError) -> SafetensorsHeader {
        let place = "the header of \(quoted(source))"
        let root = try JSON.parse(json, source: place).object(at: place)
        var metadata: [String: String] = [:]
        var tensors: [TensorInfo] = []
        tensors.reserveCapacity(root.count)
        for member in root.members {
            if member.key == metadataKey {
                metadata = try parseMetadata(member.value, place)
            } else {
                tensors.append(try parseTensor(member, headerByteCount: 8 + json.count, place))
            }
        }
        // Swift's sort keeps the header's order among tensors without bytes, which share an offset.
        tensors.sort { ($0.fileOffset, $0.byteCount) < ($1.fileOffset, $1.byteCount) }
        let header = SafetensorsHeader(byteCount: 8 + json.count, metadata: metadata, tensors: tensors)
        try header.checkContiguous(fileByteCount: fileByteCount, source: source)
        return header
    }

    private static func parseMetadata(_ value: JSON, _ place: String) throws(LatheError) -> [String: String] {
        if value == .null { return [:] }
        var metadata: [String: String] = [:]
        for member in try value.object(at: "\(place): \(metadataKey)").members {
            metadata[member.key] = try member.value.string(at: "\(place): \(metadataKey) \(quoted(member.key))")
        }
        return metadata
    }

    private static func parseTensor(
        _ member: JSONObject.Member, headerByteCount: Int, _ place: String
    ) throws(LatheError) -> TensorInfo {
        let place = "\(place), tensor \(quoted(member.key))"
        let entry = try member.value.object(at: place)
        let dtypeName = try entry.string("dtype", in: place)
        guard let dtype = DType(rawValue: dtypeName) else {
            throw LatheError(.unsupported, "\(place): there is no dtype \(quoted(dtypeName)).")
        }
        var shape: [Int] = []
        for dimension in try entry.array("shape", in: place) {
            shape.append(try dimension.int(at: "\(place): dimension \(shape.count) of \"shape\""))
        }
        let offsets = try entry.array("data_offsets", in: place)
        guard offsets.count == 2 else {
            throw LatheError(.corrupt, "\(place): \"data_offsets\" has \(offsets.count) numbers; it must have two.")
        }
        let begin = try offsets[0].int(at: "\(place): the begin in \"data_offsets\"")
        let end = try offsets[1].int(at: "\(place): the end in \"data_offsets\"")
        guard begin <= end else {
            throw LatheError(.corrupt, "\(place): \"data_offsets\" ends at \(end), before its begin at \(begin).")
        }
        switch tensorSize(dtype: dtype, shape: shape) {
        case .bytes(end - begin): break
        case .bytes(let count):
            throw LatheError(
                .corrupt,
                "\(place): \(dtypeName) \(describe(shape)) takes \(count) bytes, but \"data_offsets\" spans \(end - begin)."
            )
        case .overflow:
            throw LatheError(.corrupt, "\(place): the size of \(dtypeName) \(describe(shape)) overflows 64 bits.")
        case .partialByte:
            throw LatheError(.corrupt, "\(place): \(dtypeName) \(describe(shape)) does not end on a whole byte.")
        }
        let (fileOffset, overflow) = begin.addingReportingOverflow(headerByteCount)
        guard !overflow else { throw LatheError(.corrupt, "\(place): \"data_offsets\" overflows 64 bits.") }
        return TensorInfo(name: member.key, dtype: dtype, shape: shape, byteCount: end - begin, fileOffset: fileOffset)
    }

    private static func describe(_ shape: [Int]) -> String {
        "[" + shape.prefix(16).map(String.init).joined(separator: ", ") + (shape.count > 16 ? ", …]" : "]")
    }

    private func checkContiguous(fileByteCount: Int, source: String) throws(LatheError) {
        var offset = byteCount
        for tensor in tensors {
            guard tensor.fileOffset == offset else {
                let what = tensor.fileOffset < offset ? "overlaps the tensor before it" : "leaves a hole before it"
                throw LatheError(
                    .corrupt,
                    "The header of \(quoted(source)): the tensor \(quoted(tensor.name)) begins at byte "
                        + "\(tensor.fileOffset - byteCount) of the data and \(what); \(offset - byteCount) was expected."
                )
            }
            let (end, overflow) = offset.addingReportingOverflow(tensor.byteCount)
            guard !overflow else {
                throw LatheError(
                    .corrupt, "The header of \(quoted(source)): the tensor \(quoted(tensor.name)) overflows 64 bits.")
            }
            offset = end
        }
        if offset > fileByteCount {
            throw LatheError(
                .corrupt,
                "\(quoted(source)) is truncated: it has \(fileByteCount) bytes where its header speaks of \(offset); "
                    + "fetch it again.")
        }
        if offset < fileByteCount {
            throw LatheError(
                .corrupt,
                "\(quoted(source)) has \(fileByteCount - offset) bytes behind its last tensor, which ends at byte \(offset)."
            )
        }
    }

    // MARK: Writing

    /// The whole header, its length field included, padded with spaces to a multiple of `multiple` bytes, and to at least
    /// `minimumByteCount`. Tensors follow one another in the order given.
    static func bytes(
        metadata: [(String, String)], tensors: [TensorDeclaration], multiple: Int, minimumByteCount: Int = 0
    ) -> [UInt8] {
        var root = JSONObject()
        if !metadata.isEmpty {
            _ = root.append(metadataKey, .object(JSONObject(metadata.map { ($0.0, .string($0.1)) })))
        }
        var offset = 0
        for tensor in tensors {
            let end = offset + tensor.byteCount
            let entry: JSON = [
                "dtype": .string(tensor.dtype.rawValue), "shape": .array(tensor.shape.map { .number($0) }),
                "data_offsets": [.number(offset), .number(end)],
            ]
            let added = tensor.name != metadataKey && root.append(tensor.name, entry)
            precondition(added, "the tensor name \(quoted(tensor.name)) is taken")
            offset = end
        }
        var json = JSON.object(root).serializedBytes()
        while 8 + json.count < minimumByteCount || (8 + json.count) % multiple != 0 { json.append(UInt8(ascii: " ")) }
        precondition(json.count <= maximumByteCount, "the header is longer than readers allow")
        let length = UInt64(json.count)
        return (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + json
    }
}
