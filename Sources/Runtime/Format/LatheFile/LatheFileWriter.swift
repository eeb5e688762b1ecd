/// Writes a `.lathe` file: padded, checksummed, the same bytes for the same contents.
///
/// All tensors are declared first; then each one's bytes follow in that order, without padding, and `finish()` writes the
/// header with the checksums and puts the file in its place. Until then nothing appears there (see `AtomicFile`).
///
///     let writer = try LatheFileWriter(.path("model.lathe"), metadata: [("lathe.graph", graph)], tensors: declarations)
///     for declaration in declarations { try writer.write(bytes(of: declaration)) }
///     try writer.finish()
package final class LatheFileWriter {
    /// The tensors as they lie in the file, their last dimension padded.
    package let tensors: [TensorDeclaration]

    private let declared: [TensorDeclaration]
    private let metadata: [(String, String)]
    private let file: AtomicFile
    private let headerByteCount: Int
    private var checksums: [UInt64] = []
    private var checksum = XXH64()
    // Bytes given so far of the tensor `checksums.count`.
    private var given = 0

    // Small pieces are gathered here, so that padded rows do not cost a system call each.
    private let gathered = AlignedBuffer(byteCount: 1 << 18)
    private var gatheredCount = 0
    private var fileOffset: Int
    private var droppedOffset = 0
    private static let zeros = AlignedBuffer(byteCount: 4096).view
    /// So much of an unfinished file may stay in the kernel's cache.
    private static let cachedByteCount = 64 << 20

    /// Traps on a repeated tensor name, on metadata keys that this writer fills itself, and on what cannot be padded (see
    /// `LatheLayout.padded`).
    /// - Parameter metadata: in the order in which the header will have it.
    package init(
        _ destination: AtomicFile.Destination, metadata: [(String, String)], tensors: [TensorDeclaration],
        faultInjection: AtomicFile.FaultInjection? = nil
    ) throws(LatheError) {
        self.metadata = metadata
        declared = tensors
        self.tensors = tensors.map(LatheLayout.padded)
        let header = Self.header(metadata, self.tensors, [UInt64](repeating: 0, count: tensors.count))
        headerByteCount = header.count
        fileOffset = header.count
        file = try AtomicFile(destination, faultInjection: faultInjection)
        finishTensors()
    }

    /// Size of the finished file.
    package var byteCount: Int { tensors.reduce(headerByteCount) { $0 + $1.byteCount } }

    // MARK: Tensors

    /// All bytes of the next tensor; traps if their number is not the declared one.
    package func write(_ bytes: ByteView) throws(LatheError) {
        // Tensors without bytes are passed over by themselves, and may be written or not.
        if bytes.count == 0 { return }
        precondition(given == 0, "the tensor before is unfinished")
        precondition(checksums.count < declared.count, "all tensors have been written")
        let tensor = declared[checksums.count]
        precondition(
            bytes.count == tensor.byteCount,
            "\(bytes.count) bytes were given for the tensor \(quoted(tensor.name)) of \(tensor.byteCount)")
        try writePiece(bytes)
    }

    package func write(_ buffer: AlignedBuffer) throws(LatheError) { try write(buffer.view) }

    /// The next bytes of a tensor that is given in pieces; traps if they go beyond its end.
    package func writePiece(_ bytes: ByteView) throws(LatheError) {
        if bytes.count == 0 { return }
        precondition(checksums.count < declared.count, "all tensors have been written")
        let tensor = declared[checksums.count]
        precondition(
            bytes.count <= tensor.byteCount - given, "more bytes than the tensor \(quoted(tensor.name)) has")
        let padding = tensors[checksums.count].byteCount - tensor.byteCount
        if padding == 0 {
            try emit(bytes)
            given += bytes.count
        } else {
            try emitRows(bytes, tensor, padding: padding)
        }
        finishTensors()
    }

    /// Zeros follow each row.
    private func emitRows(_ bytes: ByteView, _ tensor: TensorDeclaration, padding: Int) throws(LatheError) {
        let rows = tensor.shape.dropLast().reduce(1, *)
        let rowByteCount = tensor.byteCount / rows
        var start = 0
        while start < bytes.count {
            let count = min(rowByteCount - given % rowByteCount, bytes.count - start)
            try emit(bytes.slice(offset: start, count: count))
            start += count
            given += count
            if given % rowByteCount == 0 { try emitZeros(padding / rows) }
        }
    }

    private func emitZeros(_ count: Int) throws(LatheError) {
        var left = count
        while left > 0 {
            let piece = min(left, Self.zeros.count)
            try emit(Self.zeros.slice(offset: 0, count: piece))
            left -= piece
        }
    }

    private func finishTensors() {
        while checksums.count < declared.count, given == declared[checksums.count].byteCount {
            checksums.append(checksum.digest())
            checksum = XXH64()
            given = 0
        }
    }

    // MARK: Bytes

    private func emit(_ bytes: ByteView) throws(LatheError) {
        checksum.update(bytes)
        if bytes.count > gathered.byteCount - gatheredCount { try flush() }
        if bytes.count >= gathered.byteCount {
            try writeToFile(bytes)
        } else {
            gathered.copy(bytes, at: gatheredCount)
            gatheredCount += bytes.count
        }
    }

    private func flush() throws(LatheError) {
        let count = gatheredCount
        gatheredCount = 0
        try writeToFile(gathered.view.slice(offset: 0, count: count))
    }

    private func writeToFile(_ bytes: ByteView) throws(LatheError) {
        try file.write(bytes, at: fileOffset)
        fileOffset += bytes.count
        if fileOffset - droppedOffset > Self.cachedByteCount {
            try file.dropPageCache()
            droppedOffset = fileOffset
        }
    }

    // MARK: Header

    /// Writes the header and puts the file in its place; traps if tensors are missing.
    /// - Returns: the map of a memory file; nil for a path.
    @discardableResult
    package func finish() throws(LatheError) -> MappedFile? {
        precondition(checksums.count == declared.count, "tensors are missing")
        try flush()
        var header = Self.header(metadata, tensors, checksums)
        precondition(header.count == headerByteCount, "checksums have a fixed width")
        let digits = Array(hexadecimal(LatheLayout.headerChecksum(ByteView(copying: header))).utf8)
        let offset = LatheLayout.headerChecksumOffset
        header.replaceSubrange(offset..<offset + LatheLayout.checksumDigits, with: digits)
        try file.write(ByteView(copying: header), at: 0)
        return try file.finish()
    }

    /// The header with zeros for its own checksum.
    private static func header(
        _ metadata: [(String, String)], _ tensors: [TensorDeclaration], _ checksums: [UInt64]
    ) -> [UInt8] {
        let names = JSONObject(zip(tensors, checksums).map { ($0.name, .string(hexadecimal($1))) })
        let all =
            [
                (LatheLayout.headerChecksumKey, hexadecimal(0)), (LatheLayout.versionKey, LatheLayout.version),
                (LatheLayout.operationsKey, LatheLayout.operations), (LatheLayout.checksumKey, LatheLayout.checksum),
            ] + metadata + [(LatheLayout.checksumsKey, JSON.object(names).serialized())]
        return SafetensorsHeader.bytes(metadata: all, tensors: tensors, multiple: LatheLayout.headerMultiple)
    }
}
