package import LatheFormat

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A committed file of digests (`Tests/Golden/*.json`): one XXH64 of output bits for each named case.
///
/// With `LATHE_REGENERATE_GOLDEN=1` in the environment the tests write what they find instead of comparing it, and fail,
/// so that no run passes by accident.
package struct GoldenDigests {
    package let path: String

    /// - Parameter name: of the file in `Tests/Golden`, without its extension.
    package init(_ name: String, testFile: String = #filePath) {
        // Tests/Suite/File.swift → Tests/Golden
        let folder = testFile.split(separator: "/", omittingEmptySubsequences: false).dropLast(2).joined(separator: "/")
        path = "\(folder)/Golden/\(name).json"
    }

    package static var isRegenerating: Bool {
        guard let value = getenv("LATHE_REGENERATE_GOLDEN") else { return false }
        return String(cString: value) == "1"
    }

    package static func digest<T: BitwiseCopyable>(_ values: [T]) -> String {
        hexadecimal(XXH64.digest(of: ByteView(copying: values.withUnsafeBytes { Array($0) })))
    }

    package func load() throws(LatheError) -> [String: String] {
        var result: [String: String] = [:]
        for member in try JSON.parse(path: path).object(at: path).members {
            result[member.key] = try member.value.string(at: path)
        }
        return result
    }

    /// One case a line, in the given order.
    package func write(_ digests: [(key: String, digest: String)]) throws(LatheError) {
        let lines = digests.map { " \(JSON.string($0.key).serialized()): \(JSON.string($0.digest).serialized())" }
        let file = try AtomicFile(.path(path))
        try file.append(ByteView(copying: Array("{\n\(lines.joined(separator: ",\n"))\n}\n".utf8)))
        _ = try file.finish()
    }
}
