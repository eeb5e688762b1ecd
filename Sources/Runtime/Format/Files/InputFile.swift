/// A regular file, open for reading at any offset.
package final class InputFile: Sendable {
    package let path: String
    /// The file's size when it was opened.
    package let byteCount: Int
    let descriptor: FileDescriptor

    init(path: String, byteCount: Int, descriptor: consuming FileDescriptor) {
        self.path = path
        self.byteCount = byteCount
        self.descriptor = descriptor
    }

    /// Opens a regular file; anything else (a folder, a pipe, nothing at all) is an error that says what it is. Never
    /// waits.
    package static func open(path: String) throws(LatheError) -> InputFile {
        let action = "open \(quoted(path))"
        try checkPath(path)
        // Looked at before it is opened, because opening a device may act; and after, because it may have changed.
        try checkRegular(try attempting(action) { () throws(SystemFailure) in try FileStatus.of(path: path) }, path)
        let descriptor = try attempting(action) { () throws(SystemFailure) in try FileDescriptor.open(reading: path) }
        let status = try attempting(action) { () throws(SystemFailure) in try descriptor.status() }
        try checkRegular(status, path)
        return InputFile(path: path, byteCount: status.byteCount, descriptor: descriptor)
    }

    /// `count` bytes from `offset`; an error if the file has become shorter than that.
    package func read(offset: Int, count: Int) throws(LatheError) -> AlignedBuffer {
        let buffer = AlignedBuffer(byteCount: count)
        try read(offset: offset, count: count, into: buffer)
        return buffer
    }

    /// Fills `count` bytes of `buffer` from `bufferOffset` on with those at `offset` of the file.
    package func read(
        offset: Int, count: Int, into buffer: AlignedBuffer, at bufferOffset: Int = 0
    ) throws(LatheError) {
        let received = try attempting("read \(quoted(path)) at byte \(offset)") { () throws(SystemFailure) in
            try descriptor.read(offset: offset, count: count, into: buffer, at: bufferOffset)
        }
        guard received == count else {
            throw LatheError(
                .io, "\(quoted(path)) ended at byte \(offset + received) while it was read; it had \(byteCount) bytes.")
        }
    }

    /// The whole file, for small ones: refused if it has more than `maximumByteCount` bytes.
    package func readAll(maximumByteCount: Int = 1 << 30) throws(LatheError) -> ByteView {
        guard byteCount <= maximumByteCount else {
            throw LatheError(
                .corrupt, "\(quoted(path)) has \(byteCount) bytes; a file of this kind has at most \(maximumByteCount)."
            )
        }
        return try read(offset: 0, count: byteCount).view
    }

    /// The whole file in memory of our own, read piece by piece; the kernel's copy of each piece is given back.
    package func copyWhole() throws(LatheError) -> ByteView {
        guard let buffer = AlignedBuffer(ifAvailable: byteCount) else {
            throw LatheError(
                .budget, "There is no memory for a copy of \(quoted(path)), \(byteCount) bytes; map it instead.")
        }
        buffer.preferLargePages()
        let piece = 8 << 20
        for offset in stride(from: 0, to: byteCount, by: piece) {
            let count = min(piece, byteCount - offset)
            try read(offset: offset, count: count, into: buffer, at: offset)
            dropPageCache(offset: offset, count: count)
        }
        return buffer.view
    }

    /// So many bytes of a file that is read in order, and dropped behind, were in the kernel's cache at most: what it reads
    /// ahead, and the blocks that were used in part.
    package static let cachedByteCount = 12 << 20

    /// Asks the kernel to forget its copies of these bytes, so that a converter that streams through a large file leaves
    /// the memory to others.
    package func dropPageCache(offset: Int, count: Int) {
        if count > 0 { descriptor.dropPageCacheBehind(offset: offset, end: offset + count) }
    }

    /// All of them, also what the kernel has read ahead.
    package func dropPageCache() { descriptor.dropPageCache(offset: 0, count: 0) }
}
