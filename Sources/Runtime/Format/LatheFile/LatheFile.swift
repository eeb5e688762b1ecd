/// A `.lathe` file, opened and checked: its header is whole, every tensor is aligned to 64 bytes and within the file.
///
/// What the tensors and the metadata mean is for others to check; this is the container.
package final class LatheFile: Sendable {
    private let file: SafetensorsFile
    private let checksums: [UInt64]

    /// - Parameter verify: whether to compare every tensor with its checksum, which reads the whole file.
    package static func open(
        path: String, access: SafetensorsFile.Access = .mapped, verify: Bool = true
    ) throws(LatheError) -> LatheFile {
        try LatheFile(try SafetensorsFile.open(path: path, access: access), verify: verify)
    }

    /// The same for a file that is mapped already, as one in memory is.
    package static func open(mapped file: MappedFile, verify: Bool = true) throws(LatheError) -> LatheFile {
        try LatheFile(try SafetensorsFile.open(mapped: file), verify: verify)
    }

    private init(_ file: SafetensorsFile, verify: Bool) throws(LatheError) {
        self.file = file
        try Self.checkVersion(file)
        try Self.checkHeader(file)
        checksums = try Self.checksums(file)
        for tensor in file.tensors {
            guard tensor.fileOffset % LatheLayout.tensorMultiple == 0,
                tensor.byteCount % LatheLayout.tensorMultiple == 0
            else {
                throw LatheError(
                    .corrupt,
                    "\(quoted(file.path)): the tensor \(quoted(tensor.name)) of \(tensor.byteCount) bytes at byte "
                        + "\(tensor.fileOffset) is not aligned to 64 bytes; convert the model again.")
            }
        }
        if verify { try self.verify() }
    }

    package var path: String { file.path }
    package var byteCount: Int { file.fileByteCount }
    /// Length field and header.
    package var headerByteCount: Int { file.headerByteCount }
    /// All strings of the header, the container's own among them.
    package var metadata: [String: String] { file.metadata }
    /// In the order of their bytes. Shapes are padded: the last dimension may be larger than the model's.
    package var tensors: [TensorInfo] { file.tensors }

    package subscript(_ name: String) -> TensorInfo? { file[name] }

    /// The tensor of that name; an error that says so if there is none.
    package func tensor(_ name: String) throws(LatheError) -> TensorInfo { try file.tensor(name) }

    /// A tensor's bytes where they lie, aligned to 64.
    package func bytes(of name: String) throws(LatheError) -> ByteView { try file.bytes(of: name) }

    /// Gives the memory back that the kernel holds for everything up to the end of a tensor. It can still be read.
    package func dropPages(upTo name: String) {
        if let tensor = file[name] { file.dropPageCache(upTo: tensor.fileOffset + tensor.byteCount) }
    }

    /// The string under `key`; an error that says so if there is none.
    package func metadata(_ key: String) throws(LatheError) -> String {
        guard let value = file.metadata[key] else {
            throw LatheError(.missing, "\(quoted(path)) has no \(quoted(key)) in its header; convert the model again.")
        }
        return value
    }

    /// Compares every tensor with its checksum; the error names the first that differs.
    package func verify() throws(LatheError) {
        for (tensor, expected) in zip(file.tensors, checksums) {
            let found = XXH64.digest(of: try file.bytes(of: tensor, 0..<tensor.byteCount))
            guard found == expected else {
                throw LatheError(
                    .corrupt,
                    "\(quoted(path)) is damaged: the tensor \(quoted(tensor.name)), \(tensor.byteCount) bytes at byte "
                        + "\(tensor.fileOffset), has the checksum \(hexadecimal(found)) instead of "
                        + "\(hexadecimal(expected)). Fetch the file again or convert the model again.")
            }
        }
    }

    // MARK: Checks

    private static func checkVersion(_ file: SafetensorsFile) throws(LatheError) {
        guard let version = file.metadata[LatheLayout.versionKey] else {
            throw LatheError(
                .unsupported,
                "\(quoted(file.path)) is a safetensors file, but no .lathe file: convert its model with lathe first.")
        }
        for (what, found, known) in [
            ("format version", version, LatheLayout.version),
            ("operation set", file.metadata[LatheLayout.operationsKey] ?? "", LatheLayout.operations),
            ("checksum", file.metadata[LatheLayout.checksumKey] ?? "", LatheLayout.checksum),
        ] where found != known {
            throw LatheError(
                .unsupported,
                "\(quoted(file.path)) has the \(what) \(quoted(found)), and this version of lathe reads \(quoted(known)): "
                    + "use the version that wrote it, or convert the model again.")
        }
    }

    private static func checkHeader(_ file: SafetensorsFile) throws(LatheError) {
        let header = try file.header()
        let offset = LatheLayout.headerChecksumOffset
        guard
            header.count % LatheLayout.headerMultiple == 0,
            header.slice(offset: 8, count: LatheLayout.headerPrefix.count).array() == LatheLayout.headerPrefix,
            let expected = file.metadata[LatheLayout.headerChecksumKey].flatMap(value(hexadecimal:)),
            header.slice(offset: offset, count: LatheLayout.checksumDigits).array() == Array(hexadecimal(expected).utf8)
        else {
            throw LatheError(
                .corrupt,
                "The header of \(quoted(file.path)) is not as lathe writes it; another program changed it, or it is "
                    + "damaged. Fetch the file again or convert the model again.")
        }
        guard LatheLayout.headerChecksum(header) == expected else {
            throw LatheError(
                .corrupt,
                "The header of \(quoted(file.path)) is damaged: it does not match its checksum. Fetch the file again or "
                    + "convert the model again.")
        }
    }

    /// In the order of the tensors.
    private static func checksums(_ file: SafetensorsFile) throws(LatheError) -> [UInt64] {
        let place = "\(LatheLayout.checksumsKey) in the header of \(quoted(file.path))"
        let text = Array((file.metadata[LatheLayout.checksumsKey] ?? "{}").utf8)
        let object = try JSON.parse(text, source: place).object(at: place)
        guard object.count == file.tensors.count else {
            throw LatheError(.corrupt, "\(place) names \(object.count) tensors; the file has \(file.tensors.count).")
        }
        var checksums: [UInt64] = []
        checksums.reserveCapacity(file.tensors.count)
        for tensor in file.tensors {
            guard let checksum = value(hexadecimal: try object.string(tensor.name, in: place)) else {
                throw LatheError(.corrupt, "\(place): the checksum of \(quoted(tensor.name)) is not 16 digits.")
            }
            checksums.append(checksum)
        }
        return checksums
    }
}
