#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// A file seen as memory, read-only. Pages come from the disk as they are first touched, are shared with every process
/// that maps the file, and can be dropped by the kernel at any time.
///
/// If another process truncates the file while it is mapped, touching a page beyond the new end ends this process with
/// SIGBUS. The library installs no signal handler by itself, because signals belong to the program; a program that cannot
/// trust its files either asks for one (`MappedFileLoss`), or reads them into memory of its own (`InputFile.read`).
@safe
package final class MappedFile: @unchecked Sendable {
    // Sendable: everything is immutable, and the map is read-only.
    private let file: InputFile
    private let base: UnsafeRawPointer?
    private let empty: ByteView?

    package var path: String { file.path }
    package var byteCount: Int { file.byteCount }

    /// Maps a regular file; the error names `path` and says what stands there instead.
    package static func open(path: String) throws(LatheError) -> MappedFile {
        try MappedFile(try InputFile.open(path: path))
    }

    package init(_ file: InputFile) throws(LatheError) {
        self.file = file
        // The system maps no empty range.
        if file.byteCount == 0 {
            unsafe base = nil
            empty = AlignedBuffer(byteCount: 0).view
            return
        }
        do {
            unsafe base = try file.descriptor.map(count: file.byteCount)
        } catch {
            throw error.sentence("map \(quoted(file.path)) into memory")
        }
        empty = nil
    }

    deinit {
        if let base = unsafe base { _ = unsafe munmap(UnsafeMutableRawPointer(mutating: base), byteCount) }
    }

    /// All bytes of the file. The view keeps the map alive.
    package var view: ByteView {
        if let base = unsafe base { return unsafe ByteView(owner: self, base: base, count: byteCount) }
        return empty!
    }

    package enum Advice {
        /// Read once from front to back: read ahead, forget behind.
        case sequential
        /// Read soon: begin to fetch.
        case willNeed
        /// Read here and there: do not read ahead.
        case random
        /// What is usual.
        case normal
        /// Fetch now, and enter every page into the process's table.
        case populate
    }

    /// Tells the kernel how bytes will be used. Only a hint, and never an error.
    package func advise(_ advice: Advice, offset: Int = 0, count: Int? = nil) {
        let flag =
            switch advice {
            case .sequential: MADV_SEQUENTIAL
            case .willNeed: MADV_WILLNEED
            case .random: MADV_RANDOM
            case .normal: MADV_NORMAL
            case .populate: Self.populateRead
            }
        madvise(flag, offset, count ?? byteCount - offset)
    }

    /// Gives pages back: out of this process, then out of the kernel's cache unless someone else has them mapped. Touching
    /// the bytes again reads them from the disk again.
    package func dropPageCache(offset: Int = 0, count: Int? = nil) {
        let count = count ?? byteCount - offset
        madvise(MADV_DONTNEED, offset, count)
        file.dropPageCache(offset: offset, count: count)
    }

    /// MADV_POPULATE_READ of Linux 5.14, which not every C library names; elsewhere a hint to begin.
    private static var populateRead: Int32 {
        #if os(Linux)
            22
        #else
            MADV_WILLNEED
        #endif
    }

    private func madvise(_ flag: Int32, _ offset: Int, _ count: Int) {
        precondition(offset >= 0 && count >= 0 && offset <= byteCount - count, "advice outside the file")
        guard let base = unsafe base, count > 0 else { return }
        // Whole pages are meant; the system wants the first one's address.
        let start = offset & ~(Int(getpagesize()) - 1)
        let address = unsafe UnsafeMutableRawPointer(mutating: base + start)
        #if canImport(Darwin)
            _ = unsafe Darwin.madvise(address, offset + count - start, flag)
        #elseif canImport(Musl)
            _ = unsafe Musl.madvise(address, offset + count - start, flag)
        #else
            _ = unsafe Glibc.madvise(address, offset + count - start, flag)
        #endif
    }
}

// Set before anything is mapped, by one thread; read by the signal handler, so a former one is never freed.
nonisolated(unsafe) private var lossSentence = unsafe UnsafeMutableBufferPointer<UInt8>(start: nil, count: 0)

/// How a program ends when a file that it has mapped becomes shorter: by a sentence and status 1, in place of SIGBUS.
package enum MappedFileLoss {
    /// - Parameters:
    ///   - file: as it should be called; fit for a terminal.
    ///   - program: stands before the sentence.
    package static func willEndProcess(of program: String, mapping file: String) {
        let text = "\(program): \(file) became shorter while it was in use; convert or copy it again.\n"
        let bytes = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
        _ = unsafe bytes.initialize(from: text.utf8)
        unsafe lossSentence = bytes
        signal(SIGBUS) { _ in
            // Only calls that a signal handler may make.
            unsafe _ = write(2, lossSentence.baseAddress, lossSentence.count)
            _exit(1)
        }
    }
}
