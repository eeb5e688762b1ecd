#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

// Every call to the operating system that files need, and nothing else: what to do about a failure is decided elsewhere.

/// Why a call failed: `errno`.
struct SystemFailure: Error, Hashable {
    let code: Int32

    static var last: SystemFailure { SystemFailure(code: errno) }
    static let interrupted = SystemFailure(code: EINTR)
    static let noSpace = SystemFailure(code: ENOSPC)
    static let invalidArgument = SystemFailure(code: EINVAL)

    /// The system's own words: "No space left on device".
    var explanation: String { unsafe strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)" }
}

/// What a path leads to.
struct FileStatus: Hashable {
    enum Kind: Hashable { case file, directory, pipe, socket, device, other }

    let kind: Kind
    let byteCount: Int
    /// The file itself, by whatever path it was found.
    let identity: Identity
    /// The permission bits, 0o777 at most.
    let permissions: UInt32

    struct Identity: Hashable {
        let device: UInt64
        let inode: UInt64
    }

    fileprivate init(_ info: stat) {
        switch info.st_mode & S_IFMT {
        case S_IFREG: kind = .file
        case S_IFDIR: kind = .directory
        case S_IFIFO: kind = .pipe
        case S_IFSOCK: kind = .socket
        case S_IFCHR, S_IFBLK: kind = .device
        default: kind = .other
        }
        byteCount = Int(info.st_size)
        identity = Identity(device: UInt64(truncatingIfNeeded: info.st_dev), inode: UInt64(info.st_ino))
        permissions = UInt32(info.st_mode) & 0o777
    }

    /// The file at `path`, symbolic links followed.
    static func of(path: String) throws(SystemFailure) -> FileStatus {
        var info = stat()
        if unsafe stat(path, &info) != 0 { throw .last }
        return FileStatus(info)
    }
}

/// An open file, closed when its owner goes.
struct FileDescriptor: ~Copyable, Sendable {
    private let raw: Int32

    private init(raw: Int32) { self.raw = raw }
    deinit { _ = close(raw) }

    private static func check(_ raw: Int32) throws(SystemFailure) -> FileDescriptor {
        if raw < 0 { throw .last }
        return FileDescriptor(raw: raw)
    }

    // MARK: Opening

    /// Never waits, not even for a writer to a pipe; the caller looks at `status().kind`.
    static func open(reading path: String) throws(SystemFailure) -> FileDescriptor {
        try check(Self.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK))
    }

    /// A file that exists already, as those are by which the kernel is told something.
    static func open(writing path: String) throws(SystemFailure) -> FileDescriptor {
        try check(Self.open(path, O_WRONLY | O_CLOEXEC))
    }

    static func open(directory path: String) throws(SystemFailure) -> FileDescriptor {
        try check(Self.open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY))
    }

    /// A folder of that name in this directory; a symbolic link to one is a failure.
    borrowing func open(directory name: String) throws(SystemFailure) -> FileDescriptor {
        try Self.check(unsafe openat(raw, name, O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW))
    }

    private static func open(_ path: String, _ flags: Int32) -> Int32 {
        while true {
            #if canImport(Darwin)
                let raw = unsafe Darwin.open(path, flags)
            #elseif canImport(Musl)
                let raw = unsafe Musl.open(path, flags)
            #else
                let raw = unsafe Glibc.open(path, flags)
            #endif
            if raw >= 0 || errno != EINTR { return raw }
        }
    }

    /// A new file of that name in this directory, for reading and writing; fails where the name is taken.
    borrowing func create(_ name: String) throws(SystemFailure) -> FileDescriptor {
        try Self.check(unsafe openat(raw, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666))
    }

    /// The file of that name in this directory, made where there is none, for reading and writing. A symbolic link is a failure.
    /// Never waits; the caller looks at `status().kind`.
    borrowing func openOrCreate(_ name: String) throws(SystemFailure) -> FileDescriptor {
        try Self.check(unsafe openat(raw, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o666))
    }

    /// A new file in this directory that has no name, and vanishes with its descriptor unless `link` gives it one;
    /// nil where the system or the file system has none, or no way to name it later.
    borrowing func createNameless() -> FileDescriptor? {
        #if os(Linux)
            // O_TMPFILE, a macro that is not imported: __O_TMPFILE (the same number on every architecture of ours)
            // with O_DIRECTORY (which differs).
            let raw = unsafe openat(self.raw, ".", 0o20_000_000 | O_DIRECTORY | O_RDWR | O_CLOEXEC, 0o666)
            if raw < 0 { return nil }
            let file = FileDescriptor(raw: raw)
            if unsafe access(file.procPath, F_OK) != 0 { return nil }
            return file
        #else
            return nil
        #endif
    }

    /// A file in memory alone; nil where the system has none.
    static func createInMemory() -> FileDescriptor? {
        #if os(Linux)
            // Looked up by name, because the C library declares memfd_create only under _GNU_SOURCE.
            typealias Create = @convention(c) (UnsafePointer<CChar>, UInt32) -> Int32
            guard let symbol = unsafe dlsym(nil, "memfd_create") else { return nil }
            let closeOnExec: UInt32 = 1
            let raw = unsafe unsafeBitCast(symbol, to: Create.self)("lathe", closeOnExec)
            return raw < 0 ? nil : FileDescriptor(raw: raw)
        #else
            return nil
        #endif
    }

    private var procPath: String { "/proc/self/fd/\(raw)" }

    // MARK: Names, in this directory

    /// Gives a file from `createNameless` a name.
    borrowing func link(_ file: borrowing FileDescriptor, as name: String) throws(SystemFailure) {
        if unsafe linkat(AT_FDCWD, file.procPath, raw, name, AT_SYMLINK_FOLLOW) != 0 { throw .last }
    }

    borrowing func rename(_ name: String, to destination: String) throws(SystemFailure) {
        if unsafe renameat(raw, name, raw, destination) != 0 { throw .last }
    }

    /// Into another directory of the same file system.
    borrowing func rename(
        _ name: String, to destination: String, in directory: borrowing FileDescriptor
    ) throws(SystemFailure) {
        if unsafe renameat(raw, name, directory.raw, destination) != 0 { throw .last }
    }

    borrowing func remove(_ name: String) {
        _ = unsafe unlinkat(raw, name, 0)
    }

    /// A new folder; fails where the name is taken.
    borrowing func createDirectory(_ name: String) throws(SystemFailure) {
        if unsafe mkdirat(raw, name, 0o777) != 0 { throw .last }
    }

    /// Only an empty folder is removed.
    borrowing func removeDirectory(_ name: String) {
        _ = unsafe unlinkat(raw, name, AT_REMOVEDIR)
    }

    // MARK: Using

    borrowing func status() throws(SystemFailure) -> FileStatus {
        var info = stat()
        if unsafe fstat(raw, &info) != 0 { throw .last }
        return FileStatus(info)
    }

    borrowing func setPermissions(_ permissions: UInt32) throws(SystemFailure) {
        if fchmod(raw, mode_t(permissions)) != 0 { throw .last }
    }

    /// Reads until `count` bytes at `offset` of the file stand at `bufferOffset` of `buffer`.
    /// - Returns: how many bytes there were; less than `count` only at the file's end.
    borrowing func read(
        offset: Int, count: Int, into buffer: AlignedBuffer, at bufferOffset: Int
    ) throws(SystemFailure) -> Int {
        precondition(offset >= 0 && count >= 0 && bufferOffset >= 0 && bufferOffset <= buffer.byteCount - count)
        return try unsafe buffer.withUnsafeMutableBytes { (bytes) throws(SystemFailure) in
            var done = 0
            while done < count {
                // The kernel transfers at most 0x7FFFF000 bytes a call; macOS refuses more.
                let piece = min(count - done, 1 << 30)
                let target = unsafe bytes.baseAddress! + (bufferOffset + done)
                let received = unsafe pread(raw, target, piece, off_t(offset + done))
                if received == 0 { break }
                if received > 0 {
                    done += received
                } else if errno != EINTR {
                    throw .last
                }
            }
            return done
        }
    }

    /// One call of pwrite: may write less than asked, or be interrupted.
    borrowing func writeOnce(_ bytes: ByteView, at offset: Int) throws(SystemFailure) -> Int {
        let written = unsafe bytes.withUnsafeBytes {
            unsafe pwrite(raw, $0.baseAddress, min($0.count, 1 << 30), off_t(offset))
        }
        if written < 0 { throw .last }
        return written
    }

    /// Cuts the file off behind its first `byteCount` bytes.
    borrowing func truncate(to byteCount: Int) throws(SystemFailure) {
        if ftruncate(raw, off_t(byteCount)) != 0 { throw .last }
    }

    /// Keeps the file for this process until the descriptor is closed, from all who ask likewise.
    /// - Returns: false where somebody else has it.
    borrowing func lock() throws(SystemFailure) -> Bool {
        if flock(raw, LOCK_EX | LOCK_NB) == 0 { return true }
        if errno == EWOULDBLOCK { return false }
        throw .last
    }

    /// Waits until the file's bytes (of a directory: its names) are on the disk.
    borrowing func sync() throws(SystemFailure) {
        if fsync(raw) != 0 { throw .last }
    }

    /// Has the kernel write its copies of these bytes, and waits for that where `waits`. Of the names and sizes of files it
    /// promises nothing: for that there is `sync()`.
    borrowing func writeBack(offset: Int, count: Int, waits: Bool) throws(SystemFailure) {
        #if os(Linux)
            if let call = Self.syncFileRange {
                // SYNC_FILE_RANGE_WRITE, and WAIT_BEFORE and WAIT_AFTER beside it.
                let flags: UInt32 = waits ? 7 : 2
                if call(raw, Int64(offset), Int64(count), flags) == 0 { return }
                if errno != ENOSYS && errno != EINVAL { throw .last }
            }
        #endif
        if waits { try sync() }
    }

    #if os(Linux)
        // Looked up by name, because the C library declares it only under _GNU_SOURCE.
        private typealias SyncFileRange = @convention(c) (Int32, Int64, Int64, UInt32) -> Int32
        private static let syncFileRange: SyncFileRange? = unsafe dlsym(nil, "sync_file_range").map {
            unsafe unsafeBitCast($0, to: SyncFileRange.self)
        }
    #endif

    /// Asks the kernel to forget its copies of these bytes; `count` 0 means up to the end. Only bytes already on the disk go.
    borrowing func dropPageCache(offset: Int, count: Int) {
        #if os(Linux)
            _ = posix_fadvise(raw, off_t(offset), off_t(count), POSIX_FADV_DONTNEED)
        #endif
    }

    /// The same, where bytes are passed over in order. The kernel keeps them in blocks of up to 2 MB and forgets whole ones
    /// alone: so that which `offset` lies in, and of which an earlier call had only a part, goes with this one.
    borrowing func dropPageCacheBehind(offset: Int, end: Int) {
        let start = max(0, offset - (4 << 20)) & ~0xFFFF
        dropPageCache(offset: start, count: end - start)
    }

    // MARK: Mapping

    /// A read-only map of the first `count` bytes; `count` must be positive.
    @unsafe
    borrowing func map(count: Int) throws(SystemFailure) -> UnsafeRawPointer {
        let base = unsafe mmap(nil, count, PROT_READ, MAP_PRIVATE, raw, 0)
        guard let base = unsafe base, unsafe base != MAP_FAILED else { throw .last }
        return UnsafeRawPointer(base)
    }
}

/// Makes one folder; one that is there already is no failure.
func makeDirectory(_ path: String) throws(SystemFailure) {
    if unsafe mkdir(path, 0o777) != 0 && errno != EEXIST { throw .last }
}

/// Where the symbolic link at `path` leads; nil where there is none.
func linkDestination(_ path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let count = unsafe buffer.withUnsafeMutableBytes {
        unsafe readlink(path, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
    }
    return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
}

/// The names in a folder, sorted by their bytes, without `.` and `..`; names that are not UTF-8, by which nothing could be
/// opened here, are left out.
func directoryNames(_ path: String) throws(SystemFailure) -> [String] {
    guard let stream = unsafe opendir(path) else { throw .last }
    defer { _ = unsafe closedir(stream) }
    var names: [String] = []
    while true {
        errno = 0
        guard let entry = unsafe readdir(stream) else {
            if errno != 0 { throw .last }
            return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        }
        // The name begins here and ends with a zero byte; how much of the field exists depends on its length.
        let offset = MemoryLayout<dirent>.offset(of: \.d_name)!
        let start = unsafe UnsafeRawPointer(entry).advanced(by: offset).assumingMemoryBound(to: CChar.self)
        if let name = unsafe String(validatingCString: start), name != ".", name != ".." { names.append(name) }
    }
}
