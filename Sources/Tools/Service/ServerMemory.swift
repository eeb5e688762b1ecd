/// What `lathe-serve` takes beside the model: for the memory plan.
package enum ServerMemory {
    /// Of the server's settings, where nothing is said.
    package static let standardConnections = 1024
    package static let standardMaximumBody = 1_000_000

    /// The language runtime, Hummingbird and the program, idle and warm: 31 MB beside the bundled model on x86-64 Linux.
    package static let runtimeByteCount = 34_000_000

    /// Bodies of the greatest size that may be on their way at once; the server refuses what exceeds them together.
    package static let wholeBodies = 8

    /// - Parameters:
    ///   - connections: the most that are open.
    ///   - maximumBody: of a request, in bytes.
    package static func byteCount(connections: Int, maximumBody: Int) -> Int {
        connections * connectionByteCount + wholeBodies * maximumBody
    }

    /// Buffers of the socket's both directions, and the task that answers: 800 busy connections took 48 kB each.
    private static let connectionByteCount = 50_000
}
