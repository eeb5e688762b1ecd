public import LatheFormat

/// Turns a Hugging Face checkpoint into a `.lathe` file.
///
/// Tensors stream: one is read, encoded and written before the next is touched, so that memory peaks at about one
/// tensor beside the output. Nothing stands at the destination until the file is complete.
public struct Compiler: Sendable {
    public var weights: WeightFormats
    /// Threads that encode.
    public var threads: Int

    public init(weights: WeightFormats = .int8, threads: Int = 1) {
        self.weights = weights
        self.threads = threads
    }

    /// How far a conversion is, in bytes of the file that is being written.
    public struct Progress: Sendable {
        public let tensor: String
        public let completedBytes: Int
        public let totalBytes: Int
    }

    /// Converts the checkpoint folder at `checkpoint` and writes `output`, replacing what stood there when it is done.
    ///
    /// - Throws: `LatheError` naming the file, tensor or field; the destination is then as it was.
    public func compile(
        checkpoint path: String, output: String, progress: (Progress) -> Void = { _ in }
    ) throws(LatheError) -> CompilationReport {
        // Read, not mapped: a mapped checkpoint would count as this process's memory, page after page.
        let checkpoint = try Checkpoint(path: path, access: .read)
        try checkOutput(output, isNoneOf: checkpoint.inputPaths)
        let job = try CompilationJob(
            checkpoint: checkpoint, format: weights, threads: threads,
            sourceHash: try SHA256.hexDigest(of: checkpoint.weights.files))
        let writer = try job.makeWriter(to: .path(output))
        let tensors = try job.write(to: writer, dropsPageCache: true, progress: progress)
        _ = try writer.finish()
        return CompilationReport(
            warnings: job.warnings,
            bytesBefore: checkpoint.weights.files.reduce(0) { $0 + $1.fileByteCount }, bytesAfter: writer.byteCount,
            tensors: tensors)
    }

    /// Converts the checkpoint folder at `path` into a file that lives in memory alone.
    ///
    /// - Parameter warn: called with what the checkpoint says and is not followed.
    package func compileInMemory(
        checkpoint path: String, warn: (String) -> Void = { _ in }, progress: (Progress) -> Void = { _ in }
    ) throws(LatheError) -> MappedFile {
        let job = try CompilationJob(
            checkpoint: try Checkpoint(path: path, access: .read), format: weights, threads: threads, sourceHash: nil)
        for warning in job.warnings { warn(warning) }
        let writer = try job.makeWriter(to: .memory(name: path))
        _ = try job.write(to: writer, dropsPageCache: false, progress: progress)
        return try writer.finish()!
    }
}

/// What a conversion did, tensor by tensor.
public struct CompilationReport: Sendable {
    public struct Tensor: Sendable {
        public let name: String
        /// The true shape `[n]` or `[n, k]`.
        public let shape: [Int]
        /// `int8` or `f32`.
        public let format: String
        public let bytesBefore: Int
        public let bytesAfter: Int
        /// ‖w − ŵ‖ / ‖w‖, of the numbers that the engine will use.
        public let relativeError: Double
    }

    /// What the checkpoint says and was not followed, one sentence each.
    public let warnings: [String]
    public let bytesBefore: Int
    public let bytesAfter: Int
    public let tensors: [Tensor]
}
