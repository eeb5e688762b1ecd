/// A safetensors file whose header has been read and checked: every tensor lies within the file, none overlaps another.
package final class SafetensorsFile: Sendable {
    package enum Access: Hashable, Sendable {
        /// Bytes are used where the system maps them. Nothing is copied, but see `MappedFile` on files that shrink.
        case mapped
        /// The same, and every page is fetched at once.
        case mappedWhole
        /// The whole file is read into memory of our own once, in large pages where the system has them. The kernel's own
        /// copies are given back on the way.
        case copied
        /// Bytes are read into memory of our own each time they are asked for; a file that shrinks gives an error.
        case read
    }

    package let metadata: [String: String]
    /// In the order of their bytes.
    package let tensors: [TensorInfo]
    /// The length field and the JSON: where the tensors' bytes begin.
    package let headerByteCount: Int

    private let storage: Storage
    private let positions: [String: Int]

    private enum Storage {
        case mapped(MappedFile)
        case copied(InputFile, ByteView)
        case file(InputFile)

        var path: String {
            switch self {
            case .mapped(let file): file.path
            case .copied(let file, _), .file(let file): file.path
            }
        }

        var byteCount: Int {
            switch self {
            case .mapped(let file): file.byteCount
            case .copied(let file, _), .file(let file): file.byteCount
            }
        }
    }

    package var path: String { storage.path }
    package var fileByteCount: Int { storage.byteCount }

    package static func open(path: String, access: Access = .mapped) throws(LatheError) -> SafetensorsFile {
        let file = try InputFile.open(path: path)
        // The header is read, not mapped, even where tensors will be mapped.
        let start = try file.read(offset: 0, count: min(512, file.byteCount)).view
        let length = try SafetensorsHeader.length(start: start, fileByteCount: file.byteCount, source: path)
        let json = try file.read(offset: 8, count: length).view
        let header = try SafetensorsHeader.parse(json, fileByteCount: file.byteCount, source: path)
        return try SafetensorsFile(header, try storage(of: file, access))
    }

    private static func storage(of file: InputFile, _ access: Access) throws(LatheError) -> Storage {
        switch access {
        case .read: return .file(file)
        case .copied: return .copied(file, try file.copyWhole())
        case .mapped: return .mapped(try MappedFile(file))
        case .mappedWhole:
            let map = try MappedFile(file)
            map.advise(.populate)
            return .mapped(map)
        }
    }

    package static func open(mapped file: MappedFile) throws(LatheError) -> SafetensorsFile {
        let length = try SafetensorsHeader.length(start: file.view, fileByteCount: file.byteCount, source: file.path)
        let json = file.view.slice(offset: 8, count: length)
        let header = try SafetensorsHeader.parse(json, fileByteCount: file.byteCount, source: file.path)
        return try SafetensorsFile(header, .mapped(file))
    }

    private init(_ header: SafetensorsHeader, _ storage: Storage) throws(LatheError) {
        metadata = header.metadata
        tensors = header.tensors
        headerByteCount = header.byteCount
        self.storage = storage
        let path = storage.path
        var positions: [String: Int] = [:]
        positions.reserveCapacity(tensors.count)
        for (position, tensor) in tensors.enumerated() {
            // Two names can differ in bytes and be equal as text.
            guard positions.updateValue(position, forKey: tensor.name) == nil else {
                throw LatheError(
                    .corrupt, "The header of \(quoted(path)) names the tensor \(quoted(tensor.name)) twice.")
            }
        }
        self.positions = positions
    }

    package subscript(_ name: String) -> TensorInfo? { positions[name].map { tensors[$0] } }

    /// The tensor of that name; an error that says so if there is none.
    package func tensor(_ name: String) throws(LatheError) -> TensorInfo {
        guard let tensor = self[name] else {
            throw LatheError(.missing, "\(quoted(path)) has no tensor \(quoted(name)); it has \(tensors.count) others.")
        }
        return tensor
    }

    // MARK: Bytes

    /// The file's bytes of a tensor.
    package func bytes(of name: String) throws(LatheError) -> ByteView {
        let tensor = try tensor(name)
        return try bytes(of: tensor, 0..<tensor.byteCount)
    }

    /// The bytes `range` of a tensor of this file; traps outside it.
    package func bytes(of tensor: TensorInfo, _ range: Range<Int>) throws(LatheError) -> ByteView {
        precondition(range.lowerBound >= 0 && range.upperBound <= tensor.byteCount, "bytes outside the tensor")
        switch storage {
        case .mapped(let file): return file.view.slice(offset: tensor.fileOffset + range.lowerBound, count: range.count)
        case .copied(_, let bytes):
            return bytes.slice(offset: tensor.fileOffset + range.lowerBound, count: range.count)
        case .file(let file):
            return try file.read(offset: tensor.fileOffset + range.lowerBound, count: range.count).view
        }
    }

    /// The length field and the JSON, as they stand in the file.
    package func header() throws(LatheError) -> ByteView {
        switch storage {
        case .mapped(let file): return file.view.slice(offset: 0, count: headerByteCount)
        case .copied(_, let bytes): return bytes.slice(offset: 0, count: headerByteCount)
        case .file(let file): return try file.read(offset: 0, count: headerByteCount).view
        }
    }

    /// Gives the memory back that the kernel holds for a tensor that has been used up.
    package func dropPageCache(of tensor: TensorInfo) {
        switch storage {
        case .mapped(let file): file.dropPageCache(offset: tensor.fileOffset, count: tensor.byteCount)
        case .copied: break
        case .file(let file): file.dropPageCache(offset: tensor.fileOffset, count: tensor.byteCount)
        }
    }

    /// The same for everything up to byte `end` of the file.
    package func dropPageCache(upTo end: Int) {
        switch storage {
        case .mapped(let file): file.dropPageCache(offset: 0, count: end)
        case .copied: break
        case .file(let file): file.dropPageCache(offset: 0, count: end)
        }
    }

    // MARK: Floats

    /// The elements of a tensor as float32, in the file's order: [elementCount] floats.
    ///
    /// F16, BF16, I8, U8 and BOOL (0 or 1) are exact; I32 and I64 are rounded to the nearest float32. Other types are
    /// refused by name.
    package func floats(of name: String) throws(LatheError) -> AlignedBuffer {
        let tensor = try tensor(name)
        return try floats(of: tensor, elements: 0..<tensor.elementCount)
    }

    /// The elements `elements` of a tensor of this file, counted over the flattened shape; traps outside it.
    package func floats(of tensor: TensorInfo, elements: Range<Int>) throws(LatheError) -> AlignedBuffer {
        precondition(
            elements.lowerBound >= 0 && elements.upperBound <= tensor.elementCount, "elements outside the tensor")
        guard let conversion = FloatConversion(tensor.dtype) else {
            throw LatheError(
                .unsupported,
                "\(quoted(path)): the tensor \(quoted(tensor.name)) is \(tensor.dtype.rawValue), which is not read as "
                    + "numbers here; convert it to F32, F16 or BF16 first.")
        }
        let floats = AlignedBuffer(byteCount: elements.count * 4)
        let width = tensor.dtype.bitWidth / 8
        // Converted piece by piece, so that little memory is taken beside the result.
        let pieceCount = 1 << 18
        for start in stride(from: elements.lowerBound, to: elements.upperBound, by: pieceCount) {
            let end = min(start + pieceCount, elements.upperBound)
            let source = try bytes(of: tensor, start * width..<end * width)
            guard conversion.convert(source, into: floats, at: start - elements.lowerBound) else {
                throw LatheError(
                    .corrupt,
                    "\(quoted(path)): the tensor \(quoted(tensor.name)) is BOOL, but holds bytes other than 0 and 1.")
            }
        }
        return floats
    }
}
