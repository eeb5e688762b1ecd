/// What the server takes beside the model: for the memory plan.
enum ServerMemory {
    /// The language runtime, Hummingbird and the program, idle and warm: 31 MB beside the bundled model on x86-64 Linux.
    static let runtimeByteCount = 34_000_000

    /// - Parameters:
    ///   - connections: the most that are open.
    ///   - maximumBody: of a request; eight of them may be on their way at once.
    static func byteCount(connections: Int, maximumBody: Int) -> Int {
        connections * connectionByteCount + 8 * maximumBody
    }

    /// Buffers of the socket's both directions, and the task that answers: 800 busy connections took 48 kB each.
    private static let connectionByteCount = 50_000
}
