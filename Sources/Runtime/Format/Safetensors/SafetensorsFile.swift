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
        /// As `read`, and the kernel's copies are dropped behind each read: for files that are gone through once, under a
        /// limit of memory.
        case streamed
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
        case file(InputFile, dropsPageCache: Bool)

        var path: String {
            switch self {
            case .mapped(let file): file.path
            case .copied(let file, _), .file(let file, _): file.path
            }
        }

        var byteCount: Int {
            switch self {
            case .mapped(let file): file.byteCount
            case .copied(let file, _), .file(let file, _): file.byteCount
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
        case .read: return .file(file, dropsPageCache: false)
        case .streamed: return .file(file, dropsPageCache: true)
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

    /// The bytes `range` of a tensor of this file; traps outside it. Where they are not mapped, their memory is the ledger's.
    package func bytes(
        of tensor: TensorInfo, _ range: Range<Int>, ledger: MemoryLedger? = nil
    ) throws(LatheError) -> ByteView {
        precondition(range.lowerBound >= 0 && range.upperBound <= tensor.byteCount, "bytes outside the tensor")
        let offset = tensor.fileOffset + range.lowerBound
        switch storage {
        case .mapped(let file): return file.view.slice(offset: offset, count: range.count)
        case .copied(_, let bytes): return bytes.slice(offset: offset, count: range.count)
        case .file(let file, let dropsPageCache):
            let buffer = try Self.buffer(range.count, of: tensor, ledger)
            // In small pieces, so that the kernel's copies are as small.
            let piece = dropsPageCache ? Self.windowByteCount : max(1, range.count)
            for start in stride(from: 0, to: range.count, by: piece) {
                let count = min(piece, range.count - start)
                try file.read(offset: offset + start, count: count, into: buffer, at: start)
                if dropsPageCache { file.dropPageCache(offset: offset + start, count: count) }
            }
            return buffer.view
        }
    }

    /// What is read, converted and dropped at once.
    package static let windowByteCount = 1 << 20

    private static func buffer(
        _ byteCount: Int, of tensor: TensorInfo, _ ledger: MemoryLedger?
    ) throws(LatheError) -> AlignedBuffer {
        guard let ledger else { return AlignedBuffer(byteCount: byteCount) }
        return try ledger.buffer(byteCount, .windows, for: "reading \(quoted(tensor.name))")
    }

    /// The length field and the JSON, as they stand in the file.
    package func header() throws(LatheError) -> ByteView {
        switch storage {
        case .mapped(let file): return file.view.slice(offset: 0, count: headerByteCount)
        case .copied(_, let bytes): return bytes.slice(offset: 0, count: headerByteCount)
        case .file(let file, _): return try file.read(offset: 0, count: headerByteCount).view
        }
    }

    /// Gives the memory back that the kernel holds for a tensor that has been used up.
    package func dropPageCache(of tensor: TensorInfo) {
        switch storage {
        case .mapped(let file): file.dropPageCache(offset: tensor.fileOffset, count: tensor.byteCount)
        case .copied: break
        // What was read ahead of a streamed tensor is not what comes next.
        case .file(let file, dropsPageCache: true): file.dropPageCache()
        case .file(let file, _): file.dropPageCache(offset: tensor.fileOffset, count: tensor.byteCount)
        }
    }

    /// The same for everything up to byte `end` of the file.
    package func dropPageCache(upTo end: Int) {
        switch storage {
        case .mapped(let file): file.dropPageCache(offset: 0, count: end)
        case .copied: break
        case .file(let file, _): file.dropPageCache(offset: 0, count: end)
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
    package func floats(
        of tensor: TensorInfo, elements: Range<Int>, ledger: MemoryLedger? = nil
    ) throws(LatheError) -> AlignedBuffer {
        precondition(
            elements.lowerBound >= 0 && elements.upperBound <= tensor.elementCount, "elements outside the tensor")
        let conversion = try conversion(of: tensor)
        let floats = try Self.buffer(elements.count * 4, of: tensor, ledger)
        // Converted piece by piece, so that little memory is taken beside the result.
        for start in stride(from: elements.lowerBound, to: elements.upperBound, by: Self.windowElements) {
            let range = start..<min(start + Self.windowElements, elements.upperBound)
            try convert(tensor, range, conversion, into: floats, at: start - elements.lowerBound, ledger)
        }
        return floats
    }

    /// The columns `columns` of the rows `rows` of a matrix of this file: [rows, columns]. All the rows' bytes are read.
    package func floats(
        of tensor: TensorInfo, rows: Range<Int>, columns: Range<Int>, ledger: MemoryLedger? = nil
    ) throws(LatheError) -> AlignedBuffer {
        precondition(
            tensor.shape.count == 2 && rows.lowerBound >= 0 && rows.upperBound <= tensor.shape[0]
                && columns.lowerBound >= 0 && columns.upperBound <= tensor.shape[1], "a part of a matrix")
        let width = tensor.shape[1]
        if columns.count == width {
            return try floats(of: tensor, elements: rows.lowerBound * width..<rows.upperBound * width, ledger: ledger)
        }
        let conversion = try conversion(of: tensor)
        let floats = try Self.buffer(rows.count * columns.count * 4, of: tensor, ledger)
        let step = Self.rowsInWindow(width: width)
        let window = try Self.buffer(min(step, rows.count) * width * 4, of: tensor, ledger)
        for start in stride(from: rows.lowerBound, to: rows.upperBound, by: step) {
            let end = min(start + step, rows.upperBound)
            try convert(tensor, start * width..<end * width, conversion, into: window, at: 0, ledger)
            for row in start..<end {
                let offset = ((row - start) * width + columns.lowerBound) * 4
                floats.copy(
                    window.view.slice(offset: offset, count: columns.count * 4),
                    at: (row - rows.lowerBound) * columns.count * 4)
            }
        }
        return floats
    }

    private static let windowElements = windowByteCount / 4
    /// Of parts of rows: all of a row is read for a part of it.
    private static func rowsInWindow(width: Int) -> Int { max(1, windowElements / 4 / max(1, width)) }

    /// Bytes that `floats(of:rows:columns:)` takes beside its result, at most.
    package static func floatWindowByteCount(of tensor: TensorInfo, isPartial: Bool) -> Int {
        let elementBytes = max(1, tensor.dtype.bitWidth / 8)
        guard isPartial, let width = tensor.shape.last else {
            return min(windowElements, tensor.elementCount) * elementBytes
        }
        return min(rowsInWindow(width: width) * width, tensor.elementCount) * (4 + elementBytes)
    }

    private func conversion(of tensor: TensorInfo) throws(LatheError) -> FloatConversion {
        if let conversion = FloatConversion(tensor.dtype) { return conversion }
        throw LatheError(
            .unsupported,
            "\(quoted(path)): the tensor \(quoted(tensor.name)) is \(tensor.dtype.rawValue), which is not read as "
                + "numbers here; convert it to F32, F16 or BF16 first.")
    }

    private func convert(
        _ tensor: TensorInfo, _ elements: Range<Int>, _ conversion: FloatConversion, into floats: AlignedBuffer,
        at position: Int, _ ledger: MemoryLedger?
    ) throws(LatheError) {
        let width = tensor.dtype.bitWidth / 8
        let source = try bytes(of: tensor, elements.lowerBound * width..<elements.upperBound * width, ledger: ledger)
        guard conversion.convert(source, into: floats, at: position) else {
            throw LatheError(
                .corrupt,
                "\(quoted(path)): the tensor \(quoted(tensor.name)) is BOOL, but holds bytes other than 0 and 1.")
        }
    }
}
