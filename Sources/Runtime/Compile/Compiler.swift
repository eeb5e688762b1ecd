public import LatheFormat

/// Turns a Hugging Face checkpoint into a `.lathe` file.
///
/// Tensors stream: one is read, encoded and written before the next is touched, in slices where one is too large, so that
/// memory keeps to a plan that is made before anything is read. Nothing stands at the destination until the file is complete.
public struct Compiler: Sendable {
    public var recipe: Recipe
    /// Threads that encode.
    public var threads: Int
    /// Bytes that the whole process may take, by a plan; what does not fit is refused before it starts. nil: slices are
    /// chosen for a quarter of a gigabyte, and nothing is refused. No result depends on it.
    public var memoryBudget: Int?
    /// What is made to fail, in tests.
    var faults = Faults()
    /// What `recipe.calibration` describes: token ids, window by window.
    package var calibrationWindows: [[Int32]] = []

    public init(recipe: Recipe, threads: Int = 1) {
        self.recipe = recipe
        self.threads = threads
    }

    /// By the recipe that has this format and defaults.
    public init(weights: WeightFormats = .int8, threads: Int = 1) {
        self.init(recipe: Recipe(weights: weights), threads: threads)
    }

    struct Faults: Sendable {
        /// Whether the n-th request to the ledger fails.
        var allocation: (@Sendable (Int) -> Bool)?
        /// Is shown the account that the conversion uses.
        var ledger: (@Sendable (MemoryLedger) -> Void)?
        var file: (@Sendable (AtomicFile.Operation, Int) -> AtomicFile.Fault?)?
    }

    /// How far a conversion is, in bytes of the checkpoint's tensors.
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
        let checkpoint = try Checkpoint(path: path, access: .streamed)
        try checkOutput(output, isNoneOf: checkpoint.inputPaths)
        let job = try CompilationJob(checkpoint: checkpoint, compiler: self, hashesSource: true, progress: progress)
        let outcome = try job.write(to: .path(output), dropsPageCache: true, progress: progress)
        return CompilationReport(
            warnings: job.warnings,
            bytesBefore: checkpoint.weights.files.reduce(0) { $0 + $1.fileByteCount }, bytesAfter: outcome.byteCount,
            tensors: outcome.tensors, memory: outcome.memory)
    }

    /// What the file of this conversion would be, for a memory plan. Matrices that may become sparse count as dense.
    package func outline(checkpoint path: String) throws(LatheError) -> ModelOutline {
        try CompilationJob.outline(checkpoint: try Checkpoint(path: path, access: .read), recipe: recipe)
    }

    /// Converts the checkpoint folder at `path` into a file that lives in memory alone.
    ///
    /// - Parameter warn: called with what the checkpoint says and is not followed.
    package func compileInMemory(
        checkpoint path: String, warn: (String) -> Void = { _ in }, progress: (Progress) -> Void = { _ in }
    ) throws(LatheError) -> MappedFile {
        let checkpoint = try Checkpoint(path: path, access: .read)
        let job = try CompilationJob(checkpoint: checkpoint, compiler: self, hashesSource: false, progress: progress)
        for warning in job.warnings { warn(warning) }
        return try job.write(to: .memory(name: path), dropsPageCache: false, progress: progress).map!
    }
}

/// What a conversion did, tensor by tensor.
public struct CompilationReport: Sendable {
    public struct Tensor: Sendable {
        public let name: String
        /// The true shape `[n]` or `[n, k]`.
        public let shape: [Int]
        /// As an override would say it: `int8`, `int4:g64:sparse`, `f32`.
        public let format: String
        public let bytesBefore: Int
        public let bytesAfter: Int
        /// The fraction of the numbers that is stored as zero.
        public let sparsity: Double
        /// ‖w − ŵ‖ / ‖w‖, of the numbers that the engine will use.
        public let relativeError: Double
    }

    /// What the checkpoint says and was not followed, one sentence each.
    public let warnings: [String]
    public let bytesBefore: Int
    public let bytesAfter: Int
    public let tensors: [Tensor]
    /// What was planned, and what was taken.
    public let memory: ConversionMemory
}
