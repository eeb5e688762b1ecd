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
}
