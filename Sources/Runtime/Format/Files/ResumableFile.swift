/// A file that is written piece by piece over hours, whose pieces outlive the process that wrote them.
///
/// Bytes go to `partialPath` beside the destination as they come; `finish()` waits until they are on the disk and renames the
/// file, so that the destination is the old file or the new one, whole. Whatever ends the process before, the partial file
/// stays: the next writer finds its bytes, decides how many of them are good, and goes on behind those. After a power failure
/// the last of them may be missing or zeros.
///
/// One writer at a time, which a lock sees to; one thread of it.
package final class ResumableFile {
    package let path: String
    package let partialPath: String
    /// The partial file's size.
    package private(set) var byteCount: Int

    private let folder: FileDescriptor
    private let fileName: String
    /// Of the file that will be replaced.
    private let permissions: UInt32?
    // nil once finished.
    private var file: FileDescriptor?

    package static func partialPath(of path: String) -> String { path + ".partial" }

    /// Opens the partial file, or makes it.
    ///
    /// - Throws: also where another process writes it now.
    package init(path: String) throws(LatheError) {
        try checkPath(path)
        let partialPath = Self.partialPath(of: path)
        let (folderPath, fileName) = Self.split(path)
        let existing = try? FileStatus.of(path: path)
        if existing?.kind == .directory || ["", ".", ".."].contains(fileName) {
            throw LatheError(.io, "Cannot write \(quoted(path)): it is a folder; name a file in it.")
        }
        if let existing, existing.kind != .file {
            throw LatheError(.io, "Cannot write \(quoted(path)): it is no regular file; name another output.")
        }
        let folder = try attempting("write to the folder \(quoted(folderPath))") { () throws(SystemFailure) in
            try FileDescriptor.open(directory: folderPath)
        }
        let file = try Self.open(fileName + ".partial", in: folder, partialPath)
        byteCount = try attempting("open \(quoted(partialPath))") { () throws(SystemFailure) in
            try file.status().byteCount
        }
        self.path = path
        self.partialPath = partialPath
        self.folder = folder
        self.fileName = fileName
        permissions = existing?.permissions
        self.file = consume file
    }

    private static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", path) }
        return (slash == path.startIndex ? "/" : String(path[..<slash]), String(path[path.utf8.index(after: slash)...]))
    }

    private static func open(
        _ name: String, in folder: borrowing FileDescriptor, _ path: String
    ) throws(LatheError) -> FileDescriptor {
        while true {
            let file = try attempting("open \(quoted(path))") { () throws(SystemFailure) in
                try folder.openOrCreate(name)
            }
            let status = try attempting("open \(quoted(path))") { () throws(SystemFailure) in try file.status() }
            try checkRegular(status, path)
            guard try attempting("lock \(quoted(path))", { () throws(SystemFailure) in try file.lock() }) else {
                throw LatheError(
                    .io, "\(quoted(path)) is being written by another process; wait for it, or name another output.")
            }
            // Whoever had the lock until now may have given the file its final name.
            if (try? FileStatus.of(path: path))?.identity == status.identity { return file }
        }
    }

    /// The bytes so far, for reading.
    package func open() throws(LatheError) -> InputFile { try InputFile.open(path: partialPath) }

    /// Keeps the first `byteCount` bytes alone.
    package func truncate(to byteCount: Int) throws(LatheError) {
        precondition(byteCount >= 0 && byteCount <= self.byteCount)
        guard byteCount < self.byteCount else { return }
        try attempting("shorten \(quoted(partialPath))") { () throws(SystemFailure) in
            try file!.truncate(to: byteCount)
        }
        self.byteCount = byteCount
    }

    /// Adds bytes at the end. After an error a part of them may stand there.
    package func append(_ bytes: ByteView) throws(LatheError) {
        var done = 0
        while done < bytes.count {
            do throws(SystemFailure) {
                let written = try file!.writeOnce(
                    bytes.slice(offset: done, count: bytes.count - done), at: byteCount)
                if written == 0 { throw .noSpace }
                done += written
                byteCount += written
            } catch {
                if error == .interrupted { continue }
                throw LatheError(
                    .io,
                    """
                    Cannot write \(quoted(partialPath)) at byte \(byteCount): \(error.explanation); what it holds is \
                    kept, and the same command goes on from there.
                    """)
            }
        }
    }

    /// Puts the file in its place.
    package func finish() throws(LatheError) {
        precondition(file != nil, "the file was finished before")
        try attempting("write \(quoted(partialPath))") { () throws(SystemFailure) in
            if let permissions { try file!.setPermissions(permissions) }
            try file!.sync()
        }
        try attempting("put \(quoted(path)) in its place") { () throws(SystemFailure) in
            try folder.rename(fileName + ".partial", to: fileName)
        }
        file = nil
        do throws(SystemFailure) {
            try folder.sync()
        } catch {
            // Some file systems cannot sync a folder, and need not.
            if error == .invalidArgument { return }
            throw LatheError(
                .io,
                "\(quoted(path)) is written and in its place, but a power failure might still undo it: "
                    + "the folder cannot be synced (\(error.explanation)).")
        }
    }
}
