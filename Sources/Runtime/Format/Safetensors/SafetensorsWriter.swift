/// Writes a safetensors file, tensor after tensor, without ever holding one whole.
///
/// Every tensor is declared first; then their bytes follow in that order, in pieces of any size; then `finish()`. Nothing
/// appears at the destination before that (see `AtomicFile`).
package final class SafetensorsWriter {
    private let file: AtomicFile
    private let tensors: [TensorDeclaration]
    // The tensor that the next byte belongs to, and how many of its bytes have been written.
    private var position = 0
    private var written = 0

    /// Traps on a repeated name. The header is padded to 8 bytes, so that data begins aligned as the crate leaves it.
    package convenience init(
        _ destination: AtomicFile.Destination, metadata: [(String, String)] = [], tensors: [TensorDeclaration],
        faultInjection: AtomicFile.FaultInjection? = nil
    ) throws(LatheError) {
        try self.init(
            file: try AtomicFile(destination, faultInjection: faultInjection), metadata: metadata, tensors: tensors)
    }

    /// Writes into a file that is open and empty.
    package init(
        file: AtomicFile, metadata: [(String, String)] = [], tensors: [TensorDeclaration]
    ) throws(LatheError) {
        self.tensors = tensors
        self.file = file
        let header = SafetensorsHeader.bytes(metadata: metadata, tensors: tensors, multiple: 8)
        try file.append(ByteView(copying: header))
        skipFinished()
    }

    /// The next bytes of the current tensor; traps if there are more than it has left.
    package func write(_ bytes: ByteView) throws(LatheError) {
        if bytes.count == 0 { return }
        precondition(position < tensors.count, "all tensors have been written")
        precondition(
            bytes.count <= tensors[position].byteCount - written,
            "more bytes than the tensor \(quoted(tensors[position].name)) has")
        try file.append(bytes)
        written += bytes.count
        skipFinished()
    }

    /// Puts the file in its place; traps if bytes are missing.
    /// - Returns: the map of a memory file; nil for a path.
    @discardableResult
    package func finish() throws(LatheError) -> MappedFile? {
        precondition(position == tensors.count, "bytes of the tensor \(quoted(tensors[position].name)) are missing")
        return try file.finish()
    }

    private func skipFinished() {
        while position < tensors.count, written == tensors[position].byteCount {
            position += 1
            written = 0
        }
    }
}
