/// A file that appears all at once.
///
/// Bytes go to a temporary file in the destination's folder. `finish()` waits until they are on the disk and puts the file
/// in the destination's place by one rename, so that whoever opens the destination finds the old file or the new one, whole.
/// If anything fails, or the last reference goes without `finish()`, the temporary file is removed and the destination
/// stays as it was. Where the system can do it the temporary file has no name until it is complete: then not even a killed
/// process leaves one behind.
///
/// The destination's symbolic links are replaced, not followed. An old file's permissions are kept.
///
/// Of a large file the kernel keeps little in memory: what has been written goes to the disk in the background and out of
/// the kernel's cache (`cachedByteCount`), so that under a limit of memory nothing need be reclaimed.
///
/// One thread at a time.
package final class AtomicFile {
    package enum Destination: Hashable, Sendable {
        case path(String)
        /// Memory alone: `finish()` gives the file as a map. The name is for messages.
        case memory(name: String)
    }

    /// The steps that can fail, for tests that make them fail.
    package enum Operation: Hashable, Sendable { case create, write, sync, publish, syncFolder }
    package enum Fault: Hashable, Sendable {
        /// The step fails with this `errno`.
        case error(Int32)
        /// The write stops after that many bytes.
        case short(Int)
    }
    /// Asked before each step; the number counts the steps so far.
    package typealias FaultInjection = (Operation, _ step: Int) -> Fault?

    package let destination: Destination
    /// The file's size: the end of what has been written.
    package private(set) var byteCount = 0

    /// So many bytes of an unfinished file stay in the kernel's cache, which counts as memory under a limit.
    package static let cachedByteCount = 8 << 20
    // Bytes below `droppedOffset` are on the disk and forgotten; those up to `startedOffset` are on their way.
    private var droppedOffset = 0
    private var startedOffset = 0

    // The temporary file; nil once finished or discarded.
    private var file: FileDescriptor?
    // The temporary file's name in the folder; nil while it has none.
    private var temporaryName: String?
    private let folder: Folder?
    private let faultInjection: FaultInjection?
    private var step = 0
    // Whether the file belongs to an `AtomicFolder`, which puts it in its place.
    private let isMember: Bool

    /// Where the destination lies. Held open, so that a change of the working directory changes nothing.
    private final class Folder {
        let descriptor: FileDescriptor
        let fileName: String
        /// Of the file that will be replaced.
        let permissions: UInt32?

        init(descriptor: consuming FileDescriptor, fileName: String, permissions: UInt32?) {
            self.descriptor = descriptor
            self.fileName = fileName
            self.permissions = permissions
        }
    }

    /// - Parameter preferNameless: false forces a named temporary file, as on systems that know no other.
    package init(
        _ destination: Destination, preferNameless: Bool = true, faultInjection: FaultInjection? = nil
    ) throws(LatheError) {
        self.destination = destination
        self.faultInjection = faultInjection
        switch destination {
        case .path(let path): folder = try Self.folder(of: path)
        case .memory: folder = nil
        }
        isMember = false
        try create(preferNameless: preferNameless)
    }

    /// A file that an `AtomicFolder` will hold under the last name of `path`; until then it lies in `parent`, which must be
    /// of the same file system.
    init(memberAt path: String, parent: String, faultInjection: FaultInjection?) throws(LatheError) {
        destination = .path(path)
        self.faultInjection = faultInjection
        let fileName = String(path[path.index(after: path.lastIndex(of: "/")!)...])
        let descriptor = try attempting("write to the folder \(quoted(parent))") { () throws(SystemFailure) in
            try FileDescriptor.open(directory: parent)
        }
        folder = Folder(descriptor: descriptor, fileName: fileName, permissions: nil)
        isMember = true
        try create(preferNameless: true)
    }

    deinit { discard() }

    // MARK: Writing

    /// Adds bytes at the end.
    package func append(_ bytes: ByteView) throws(LatheError) { try write(bytes, at: byteCount) }

    /// Writes all of `bytes` at `offset`, which may lie beyond the end (the gap reads as zeros). After an error the file is
    /// discarded, and using it further traps.
    package func write(_ bytes: ByteView, at offset: Int) throws(LatheError) {
        precondition(offset >= 0)
        var done = 0
        while done < bytes.count {
            do {
                let count = min(bytes.count - done, Self.cachedByteCount / 2)
                done += try writeOnce(bytes.slice(offset: done, count: count), at: offset + done)
            } catch {
                if error == .interrupted { continue }
                discard()
                throw error.sentence("write \(name) at byte \(offset + done)")
            }
            byteCount = max(byteCount, offset + done)
            if byteCount - startedOffset >= Self.cachedByteCount / 2 { try writeBack() }
        }
    }

    /// Lets go of the half of the cache that was sent off before, and sends off the other.
    private func writeBack() throws(LatheError) {
        guard folder != nil else { return }
        let (dropped, started, end) = (droppedOffset, startedOffset, byteCount)
        try attempt(.sync, "write \(name)") { () throws(SystemFailure) in
            if started > dropped {
                try file!.writeBack(offset: dropped, count: started - dropped, waits: true)
                file!.dropPageCacheBehind(offset: dropped, end: started)
            }
            try file!.writeBack(offset: started, count: end - started, waits: false)
        }
        (droppedOffset, startedOffset) = (started, end)
    }

    private func writeOnce(_ bytes: ByteView, at offset: Int) throws(SystemFailure) -> Int {
        let limit = try inject(.write) ?? bytes.count
        if limit == 0 { return 0 }
        let written = try file!.writeOnce(bytes.slice(offset: 0, count: min(limit, bytes.count)), at: offset)
        // The system promises progress or an error; a loop without either would never end.
        if written == 0 { throw .noSpace }
        return written
    }

    // MARK: Ending

    /// Puts the file in its place; a file of an `AtomicFolder` is complete then, and appears with the folder.
    /// - Returns: the map of a memory file; nil for a path.
    @discardableResult
    package func finish() throws(LatheError) -> MappedFile? {
        precondition(file != nil, "the file was finished or discarded before")
        guard case .path(let path) = destination else {
            return try MappedFile(InputFile(path: name, byteCount: byteCount, descriptor: file.take()!))
        }
        let action = "put \(name) in its place"
        try attempt(.sync, "write \(name)") { () throws(SystemFailure) in
            if let permissions = folder!.permissions { try file!.setPermissions(permissions) }
            try file!.sync()
        }
        if byteCount > Self.cachedByteCount { file!.dropPageCache(offset: 0, count: 0) }
        if isMember { return nil }
        if temporaryName == nil {
            try attempt(.publish, action) { () throws(SystemFailure) in
                let temporary = Self.randomName()
                try folder!.descriptor.link(file!, as: temporary)
                temporaryName = temporary
            }
        }
        try attempt(.publish, action) { () throws(SystemFailure) in
            try folder!.descriptor.rename(temporaryName!, to: folder!.fileName)
        }
        temporaryName = nil
        file = nil
        do throws(SystemFailure) {
            _ = try inject(.syncFolder)
            try folder!.descriptor.sync()
        } catch {
            // Some file systems cannot sync a folder, and need not.
            if error == .invalidArgument { return nil }
            throw LatheError(
                .io,
                "\(quoted(path)) is written and in its place, but a power failure might still undo it: "
                    + "the folder cannot be synced (\(error.explanation)).")
        }
        return nil
    }

    /// Of a file of an `AtomicFolder`, its name there.
    var fileName: String { folder!.fileName }

    /// Gives a finished file of an `AtomicFolder` its name in `directory`.
    func publish(in directory: borrowing FileDescriptor) throws(LatheError) {
        do throws(SystemFailure) {
            _ = try inject(.publish)
            if let temporaryName {
                try folder!.descriptor.rename(temporaryName, to: folder!.fileName, in: directory)
            } else {
                try directory.link(file!, as: folder!.fileName)
            }
        } catch {
            discard()
            throw error.sentence("put \(name) in its place")
        }
        temporaryName = nil
        file = nil
    }

    /// Removes the temporary file. Nothing happens after `finish()`.
    package func discard() {
        if let temporaryName { folder!.descriptor.remove(temporaryName) }
        temporaryName = nil
        file = nil
    }

    // MARK: Steps

    private var name: String {
        switch destination {
        case .path(let path): quoted(path)
        case .memory(let name): name
        }
    }

    private static func folder(of path: String) throws(LatheError) -> Folder {
        try checkPath(path)
        let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
        let fileName = slash.map { String(path[path.utf8.index(after: $0)...]) } ?? path
        let folderPath = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let existing = try? FileStatus.of(path: path)
        if existing?.kind == .directory || ["", ".", ".."].contains(fileName) {
            throw LatheError(.io, "Cannot write \(quoted(path)): it is a folder; name a file in it.")
        }
        if let existing, existing.kind != .file {
            throw LatheError(.io, "Cannot write \(quoted(path)): it is no regular file; name another output.")
        }
        let descriptor = try attempting("write to the folder \(quoted(folderPath))") { () throws(SystemFailure) in
            try FileDescriptor.open(directory: folderPath)
        }
        return Folder(descriptor: descriptor, fileName: fileName, permissions: existing?.permissions)
    }

    private func create(preferNameless: Bool) throws(LatheError) {
        guard folder != nil else {
            file = try attempt(.create, "create \(name)") { () throws(SystemFailure) in
                if let memory = FileDescriptor.createInMemory() { return memory }
                return try Self.createUnlinked()
            }
            return
        }
        file = try attempt(.create, "create a file beside \(name)") { () throws(SystemFailure) in
            if preferNameless, let nameless = folder!.descriptor.createNameless() { return nameless }
            let temporary = Self.randomName()
            let created = try folder!.descriptor.create(temporary)
            temporaryName = temporary
            return created
        }
    }

    /// Where the system has no files in memory: one on the disk that nobody else can find.
    private static func createUnlinked() throws(SystemFailure) -> FileDescriptor {
        let folder = try FileDescriptor.open(directory: "/tmp")
        let name = randomName()
        let file = try folder.create(name)
        folder.remove(name)
        return file
    }

    /// Sixteen random digits: nobody has this name.
    static func randomName() -> String {
        let digits = String(UInt64.random(in: 0...UInt64.max), radix: 16)
        return ".lathe-\(String(repeating: "0", count: 16 - digits.count))\(digits).tmp"
    }

    /// - Returns: the bytes to which a write is to be cut.
    private func inject(_ operation: Operation) throws(SystemFailure) -> Int? {
        defer { step += 1 }
        switch faultInjection?(operation, step) {
        case nil: return nil
        case .error(let code): throw SystemFailure(code: code)
        case .short(let count): return count
        }
    }

    /// One step; a failure discards the file.
    private func attempt<R: ~Copyable>(
        _ operation: Operation, _ action: String, _ call: () throws(SystemFailure) -> R
    ) throws(LatheError) -> R {
        do {
            _ = try inject(operation)
            return try call()
        } catch {
            discard()
            throw error.sentence(action)
        }
    }
}
