/// A folder of files that appears all at once.
///
/// Files are written without a name where the system can do it, beside the destination. `finish()` gathers them in a
/// temporary folder and puts that in the destination's place by one rename. If anything fails, or the last reference goes
/// without `finish()`, nothing is left; of a process that is killed before `finish()`, nothing either.
///
/// The destination must not exist yet, or be an empty folder: no file of anyone's is ever replaced. One thread at a time.
package final class AtomicFolder {
    package let path: String

    // Where the destination lies, held open, and its last name.
    private let parent: FileDescriptor
    private let parentPath: String
    private let name: String
    private var files: [AtomicFile] = []
    private let faultInjection: AtomicFile.FaultInjection?
    private var step = 0

    /// - Parameter input: a folder that is read: the destination must neither be it nor lie in it.
    package init(
        _ path: String, outside input: String? = nil, faultInjection: AtomicFile.FaultInjection? = nil
    ) throws(LatheError) {
        try checkPath(path)
        var path = path
        while path.count > 1 && path.hasSuffix("/") { path.removeLast() }
        let slash = path.lastIndex(of: "/")
        name = slash.map { String(path[path.index(after: $0)...]) } ?? path
        parentPath = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        guard !["", ".", ".."].contains(name) else {
            throw LatheError(
                .io, "\(quoted(path)) cannot become the output: name a folder that does not exist yet.")
        }
        self.path = path
        self.faultInjection = faultInjection
        let parentPath = parentPath
        parent = try attempting("write to the folder \(quoted(parentPath))") { () throws(SystemFailure) in
            try FileDescriptor.open(directory: parentPath)
        }
        if let input { try checkIsOutside(input) }
        try checkIsFree()
    }

    /// A new file of the folder; complete when its `finish()` has been called, visible with the folder.
    package func makeFile(_ name: String) throws(LatheError) -> AtomicFile {
        precondition(!["", ".", ".."].contains(name) && !name.contains("/"), "a file's name, not a path")
        let file = try AtomicFile(memberAt: "\(path)/\(name)", parent: parentPath, faultInjection: faultInjection)
        files.append(file)
        return file
    }

    /// A copy of the file at `source`, under the same name unless `name` says another.
    package func copy(_ source: String, as name: String) throws(LatheError) {
        let input = try InputFile.open(path: source)
        let file = try makeFile(name)
        let window = 1 << 20
        for offset in stride(from: 0, to: input.byteCount, by: window) {
            try file.append(try input.read(offset: offset, count: min(window, input.byteCount - offset)).view)
        }
        _ = try file.finish()
    }

    /// Puts the folder in its place, with every file that was made; each must be finished.
    package func finish() throws(LatheError) {
        let temporary = AtomicFile.randomName()
        let action = "put the folder \(quoted(path)) in its place"
        var published: [String] = []
        do throws(LatheError) {
            try attempting(action) { () throws(SystemFailure) in
                try inject(.create)
                try parent.createDirectory(temporary)
            }
            let directory = try attempting(action) { () throws(SystemFailure) in
                try parent.open(directory: temporary)
            }
            for file in files {
                try file.publish(in: directory)
                published.append(file.fileName)
            }
            try attempting(action) { () throws(SystemFailure) in
                try inject(.sync)
                try directory.sync()
                try inject(.publish)
                try parent.rename(temporary, to: name)
            }
        } catch {
            if let directory = try? parent.open(directory: temporary) {
                for name in published { directory.remove(name) }
            }
            parent.removeDirectory(temporary)
            files = []
            throw error
        }
        files = []
        do throws(SystemFailure) {
            try inject(.syncFolder)
            try parent.sync()
        } catch {
            // Some file systems cannot sync a folder, and need not.
            if error == .invalidArgument { return }
            throw LatheError(
                .io,
                "\(quoted(path)) is written and in its place, but a power failure might still undo it: the folder around "
                    + "it cannot be synced (\(error.explanation)).")
        }
    }

    /// Of the folder's own steps; the files count theirs.
    private func inject(_ operation: AtomicFile.Operation) throws(SystemFailure) {
        defer { step += 1 }
        if case .error(let code) = faultInjection?(operation, step) { throw SystemFailure(code: code) }
    }

    // MARK: The destination

    private func checkIsFree() throws(LatheError) {
        guard let status = try? FileStatus.of(path: path) else { return }
        guard status.kind == .directory else {
            throw LatheError(.io, "Cannot write the folder \(quoted(path)): something else is there; name another.")
        }
        guard try Files.names(in: path).isEmpty else {
            throw LatheError(
                .io, "The folder \(quoted(path)) is there already and not empty; name another, or remove it first.")
        }
        guard (try? parent.open(directory: name)) != nil else {
            throw LatheError(.io, "Cannot write the folder \(quoted(path)): it is a link; name the folder itself.")
        }
    }

    private func checkIsOutside(_ input: String) throws(LatheError) {
        guard let origin = try? FileStatus.of(path: input) else { return }
        if (try? FileStatus.of(path: path))?.identity == origin.identity {
            throw LatheError(
                .io, "The output \(quoted(path)) is the input \(quoted(input)); name another folder for the output.")
        }
        // Upwards to the root, which is its own parent.
        var ancestor = parentPath
        var last: FileStatus.Identity?
        while let status = try? FileStatus.of(path: ancestor), status.identity != last {
            if status.identity == origin.identity {
                throw LatheError(
                    .io, "The output \(quoted(path)) lies in the input \(quoted(input)); name a folder elsewhere.")
            }
            last = status.identity
            ancestor += "/.."
        }
    }
}
