/// What the server takes beside the model: for the memory plan.
enum ServerMemory {
    /// The language runtime, Hummingbird and the program, idle and warm. Measured on x86-64 Linux (docs/DESIGN.md, "Memory").
    static let runtimeByteCount = 34_000_000

    /// Bodies, replies and what a connection keeps.
    ///
    /// A connection holds its buffers and what its task keeps, measured under overload; bodies beyond a few at a time are refused.
    static func byteCount(connections: Int, maximumBody: Int) -> Int {
        connections * connectionByteCount + 8 * maximumBody
    }

    private static let connectionByteCount = 24_000
}
