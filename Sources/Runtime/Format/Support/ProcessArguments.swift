/// What the process was called with.
package enum ProcessArguments {
    /// The language reads a process's arguments from `/proc` on Linux, and has none at all where that is not mounted; nor would
    /// its threads work reliably there.
    ///
    /// - Throws: `io` with what to mend.
    package static func requireReadable() throws(LatheError) {
        guard CommandLine.argc == 0 else { return }
        throw LatheError(.io, "The arguments cannot be read, because /proc is not mounted; mount it.")
    }
}
