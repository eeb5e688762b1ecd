/// Writes a `.lathe` file: padded, checksummed, the same bytes for the same contents.
///
/// Room for the header is reserved first. Tensors are declared as their sizes become known, each before its own bytes;
/// then its bytes follow, without padding. `finish(metadata:)` writes the header with the checksums into the room and puts
/// the file in its place. Until then nothing appears there (see `AtomicFile`).
///
///     let writer = try LatheFileWriter(.path("model.lathe"), headerByteCount: bound)
///     for tensor in tensors {
///         writer.declare([tensor.declaration])
///         try writer.write(tensor.bytes)
///     }
///     try writer.finish(metadata: [("lathe.graph", graph)])
package final class LatheFileWriter {
    /// The tensors declared so far as they lie in the file, their last dimension padded.
    package private(set) var tensors: [TensorDeclaration] = []

    private var declared: [TensorDeclaration] = []
    // What `finish()` writes; nil where `finish(metadata:)` will say.
    private let metadata: [(String, String)]?
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
    private static let zeros = AlignedBuffer(byteCount: 4096).view

    /// - Parameter headerByteCount: room for the header, from `headerByteCount(metadata:tensors:)` of what is at least as
    ///   long as what will be written.
    package convenience init(
        _ destination: AtomicFile.Destination, headerByteCount: Int,
        faultInjection: AtomicFile.FaultInjection? = nil
    ) throws(LatheError) {
        try self.init(destination, headerByteCount, metadata: nil, faultInjection)
    }

    /// For a file of which everything but the bytes is known: all tensors are declared, and `finish()` ends it. Traps where
    /// `declare` does.
    /// - Parameter metadata: in the order in which the header will have it.
    package convenience init(
        _ destination: AtomicFile.Destination, metadata: [(String, String)], tensors: [TensorDeclaration],
        faultInjection: AtomicFile.FaultInjection? = nil
    ) throws(LatheError) {
        let headerByteCount = Self.headerByteCount(metadata: metadata, tensors: tensors)
        try self.init(destination, headerByteCount, metadata: metadata, faultInjection)
        declare(tensors)
    }

    private init(
        _ destination: AtomicFile.Destination, _ headerByteCount: Int, metadata: [(String, String)]?,
        _ faultInjection: AtomicFile.FaultInjection?
    ) throws(LatheError) {
        self.metadata = metadata
        self.headerByteCount = headerByteCount
        fileOffset = headerByteCount
        file = try AtomicFile(destination, faultInjection: faultInjection)
    }

    /// Size of the file if it were finished now, in bytes.
    package var byteCount: Int { tensors.reduce(headerByteCount) { $0 + $1.byteCount } }

    /// Bytes of the header of a file with this metadata and these tensors, as they are declared.
    package static func headerByteCount(metadata: [(String, String)], tensors: [TensorDeclaration]) -> Int {
        header(metadata, tensors.map(LatheLayout.padded), [UInt64](repeating: 0, count: tensors.count)).count
    }

    /// The next tensors of the file, behind those declared before. Traps on what cannot be padded (see
    /// `LatheLayout.padded`); a repeated name traps in the end.
    package func declare(_ tensors: [TensorDeclaration]) {
        declared += tensors
        self.tensors += tensors.map(LatheLayout.padded)
        finishTensors()
    }

    // MARK: Tensors

    /// All bytes of the next tensor; traps if their number is not the declared one.
    package func write(_ bytes: ByteView) throws(LatheError) {
        // Tensors without bytes are passed over by themselves, and may be written or not.
        if bytes.count == 0 { return }
        precondition(given == 0, "the tensor before is unfinished")
        precondition(checksums.count < declared.count, "all declared tensors have been written")
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
        precondition(checksums.count < declared.count, "all declared tensors have been written")
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
    }

    // MARK: Header

    /// Writes the header and puts the file in its place; traps if tensors are missing, on metadata keys that this writer
    /// fills itself, and on a header that is longer than its room.
    /// - Parameter metadata: in the order in which the header will have it.
    /// - Returns: the map of a memory file; nil for a path.
    @discardableResult
    package func finish(metadata: [(String, String)]) throws(LatheError) -> MappedFile? {
        precondition(checksums.count == declared.count, "tensors are missing")
        try flush()
        var header = Self.header(metadata, tensors, checksums, minimumByteCount: headerByteCount)
        precondition(header.count == headerByteCount, "the header is longer than the room that was reserved for it")
        let digits = Array(hexadecimal(LatheLayout.headerChecksum(ByteView(copying: header))).utf8)
        let offset = LatheLayout.headerChecksumOffset
        header.replaceSubrange(offset..<offset + LatheLayout.checksumDigits, with: digits)
        try file.write(ByteView(copying: header), at: 0)
        return try file.finish()
    }

    /// The same with the metadata that the initializer was given.
    @discardableResult
    package func finish() throws(LatheError) -> MappedFile? { try finish(metadata: metadata!) }

    /// The header with zeros for its own checksum.
    private static func header(
        _ metadata: [(String, String)], _ tensors: [TensorDeclaration], _ checksums: [UInt64],
        minimumByteCount: Int = 0
    ) -> [UInt8] {
        let names = JSONObject(zip(tensors, checksums).map { ($0.name, .string(hexadecimal($1))) })
        let all =
            [
                (LatheLayout.headerChecksumKey, hexadecimal(0)), (LatheLayout.versionKey, LatheLayout.version),
                (LatheLayout.operationsKey, LatheLayout.operations), (LatheLayout.checksumKey, LatheLayout.checksum),
            ] + metadata + [(LatheLayout.checksumsKey, JSON.object(names).serialized())]
        return SafetensorsHeader.bytes(
            metadata: all, tensors: tensors, multiple: LatheLayout.headerMultiple, minimumByteCount: minimumByteCount)
    }
}
