/// Small questions about paths, and whole small files.
package enum Files {
    package static func exists(_ path: String) -> Bool { (try? FileStatus.of(path: path)) != nil }

    package static func isDirectory(_ path: String) -> Bool { (try? FileStatus.of(path: path))?.kind == .directory }

    /// Whether something is there that can only be read from front to end: a pipe, a device.
    package static func isStream(_ path: String) -> Bool {
        switch (try? FileStatus.of(path: path))?.kind {
        case .pipe, .device: true
        default: false
        }
    }

    /// The names of everything in the folder at `path`, hidden files too, in the order of their bytes.
    package static func names(in path: String) throws(LatheError) -> [String] {
        try checkPath(path)
        return try attempting("list the folder \(quoted(path))") { () throws(SystemFailure) in
            try directoryNames(path)
        }
    }

    /// Whether a regular file stands at `path`, symbolic links followed.
    package static func isRegular(_ path: String) -> Bool { (try? FileStatus.of(path: path))?.kind == .file }

    /// All bytes of the regular file at `path`.
    package static func read(_ path: String) throws(LatheError) -> ByteView {
        try InputFile.open(path: path).readAll()
    }

    /// Makes the folder at `path`, with the folders above it, where they do not exist yet.
    package static func createDirectory(_ path: String) throws(LatheError) {
        try checkPath(path)
        guard !isDirectory(path) else { return }
        if let slash = path.lastIndex(of: "/"), slash != path.startIndex {
            try createDirectory(String(path[..<slash]))
        }
        try attempting("make the folder \(quoted(path))") { () throws(SystemFailure) in try makeDirectory(path) }
    }

    /// Removes the file at `path`; nothing happens where there is none.
    package static func remove(_ path: String) {
        let (folder, name) = split(path)
        (try? FileDescriptor.open(directory: folder))?.remove(name)
    }

    /// Removes the folder at `path` with the files in it. One that holds folders keeps them.
    package static func removeFolder(_ path: String) {
        for name in (try? names(in: path)) ?? [] { remove("\(path)/\(name)") }
        removeEmptyFolder(path)
    }

    /// Removes the folder at `path` unless something is in it.
    package static func removeEmptyFolder(_ path: String) {
        let (folder, name) = split(path)
        (try? FileDescriptor.open(directory: folder))?.removeDirectory(name)
    }

    /// Gives the file at `path` another name, replacing what has it. Both lie in one file system.
    package static func move(_ path: String, to destination: String) throws(LatheError) {
        let (from, to) = (split(path), split(destination))
        try attempting("rename \(quoted(path)) to \(quoted(destination))") { () throws(SystemFailure) in
            try FileDescriptor.open(directory: from.folder).rename(
                from.name, to: to.name, in: try FileDescriptor.open(directory: to.folder))
        }
    }

    /// The folder that a path lies in, and its last name.
    private static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", path) }
        return (slash == path.startIndex ? "/" : String(path[..<slash]), String(path[path.utf8.index(after: slash)...]))
    }

    /// Writes a small file in one piece: the old one stands until the new one is complete.
    package static func write(_ text: String, to path: String) throws(LatheError) {
        let file = try AtomicFile(.path(path))
        try file.append(ByteView(copying: Array(text.utf8)))
        try file.finish()
    }

    /// The beginning of a file of the kernel's (in /proc or /sys), whose size is not known before it is read; nil where
    /// there is none.
    package static func readKernelText(_ path: String) -> String? {
        guard let file = try? InputFile.open(path: path) else { return nil }
        let buffer = AlignedBuffer(byteCount: 1 << 20)
        guard let count = try? file.descriptor.read(offset: 0, count: buffer.byteCount, into: buffer, at: 0) else {
            return nil
        }
        return String(decoding: buffer.view.slice(offset: 0, count: count).array(), as: UTF8.self)
    }

    /// Writes to a file of the kernel's (in /proc or /sys), which takes the text as one command.
    package static func writeKernelText(_ text: String, to path: String) throws(LatheError) {
        try checkPath(path)
        let bytes = ByteView(copying: Array(text.utf8))
        let written = try attempting("write \(quoted(text)) to \(quoted(path))") { () throws(SystemFailure) in
            try FileDescriptor.open(writing: path).writeOnce(bytes, at: 0)
        }
        guard written == bytes.count else { throw LatheError(.io, "\(quoted(path)) took only a part of \(quoted(text)).") }
    }

    /// Lets the kernel forget its copies of the file at `path`, once those not yet written are on the disk. Only a wish:
    /// pages that another process has mapped stay, and a file that cannot be opened is left alone.
    package static func dropPageCache(of path: String) {
        guard let file = try? InputFile.open(path: path) else { return }
        try? file.descriptor.sync()
        file.dropPageCache(offset: 0, count: file.byteCount)
    }
}
