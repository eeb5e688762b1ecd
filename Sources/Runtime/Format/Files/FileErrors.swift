extension SystemFailure {
    /// - Parameter action: what was tried, behind "cannot": `open "model.lathe"`.
    func sentence(_ action: String) -> LatheError { LatheError(.io, "Cannot \(action): \(explanation).") }
}

/// Runs one call of the system and makes a sentence of its failure.
func attempting<R: ~Copyable>(
    _ action: @autoclosure () -> String, _ call: () throws(SystemFailure) -> R
) throws(LatheError) -> R {
    do {
        return try call()
    } catch {
        throw error.sentence(action())
    }
}

/// Refuses what no system call could be given: an empty path, or one with a zero byte, at which the system would stop reading.
func checkPath(_ path: String) throws(LatheError) {
    if path.isEmpty { throw LatheError(.io, "A file is named by an empty path.") }
    if path.utf8.contains(0) { throw LatheError(.io, "The path \(quoted(path)) holds a zero byte.") }
}

/// Refuses everything that is not a file with bytes at offsets, and says what it is.
func checkRegular(_ status: FileStatus, _ path: String) throws(LatheError) {
    let kind: String
    switch status.kind {
    case .file: return
    case .directory: kind = "a folder"
    case .pipe: kind = "a pipe"
    case .socket: kind = "a socket"
    case .device: kind = "a device"
    case .other: kind = "no regular file"
    }
    let remedy = status.kind == .directory ? "name a file in it" : "save its contents to a file first"
    throw LatheError(.io, "\(quoted(path)) is \(kind), and a file is needed: \(remedy).")
}

/// Refuses to write `output` where that would destroy one of the inputs: the same file, by whatever path or hard link.
/// Inputs that do not exist are ignored; whoever opens them says so.
package func checkOutput(_ output: String, isNoneOf inputs: [String]) throws(LatheError) {
    try checkPath(output)
    guard let existing = try? FileStatus.of(path: output) else { return }
    for input in inputs {
        guard let status = try? FileStatus.of(path: input), status.identity == existing.identity else { continue }
        throw LatheError(
            .io, "The output \(quoted(output)) is the input \(quoted(input)); name another file for the output.")
    }
}
