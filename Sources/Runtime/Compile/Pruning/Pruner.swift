public import LatheFormat

/// Makes weights of a Hugging Face checkpoint zero and writes an ordinary checkpoint again, which can be fine-tuned, run
/// or converted as the first could.
///
/// Weights of linear layers are pruned; embeddings and head are not unless asked for. Weights that stay keep their bits.
/// Among equal scores the first ones go, so that the same checkpoint and options always give the same bytes.
public struct Pruner: Sendable {
    public var options: PruningOptions
    /// Bytes that the whole process may take, by a plan; what does not fit is refused before it starts. No result depends
    /// on it.
    public var memoryBudget: Int?
    /// What is made to fail, in tests.
    var faults = Compiler.Faults()

    public init(_ options: PruningOptions) { self.options = options }

    /// What `prune` would refuse before it reads a weight or a text.
    public func check(checkpoint path: String, output: String) throws(LatheError) {
        _ = try PruningJob(try Checkpoint(path: path, access: .streamed), options, budget: memoryBudget)
        _ = try AtomicFolder(output, outside: path)
    }

    /// Prunes the checkpoint folder at `path` and writes the folder `output`, which must not exist yet or be empty.
    ///
    /// - Parameters:
    ///   - calibration: windows of token ids that wanda looks at; not used by magnitude.
    ///   - threads: threads that compute wanda's inputs; no result depends on them.
    /// - Throws: `LatheError` naming the file, tensor or option; nothing is left of the output then.
    public func prune(
        checkpoint path: String, output: String, calibration: [[Int32]] = [], threads: Int = 1,
        progress: (Compiler.Progress) -> Void = { _ in }
    ) throws(LatheError) -> PruningReport {
        let calibration = calibration.isEmpty ? nil : ReferenceCalibration(windows: calibration, threads: threads)
        return try prune(checkpoint: path, output: output, source: calibration, progress: progress)
    }

    /// - Parameter source: what wanda asks for its norms.
    func prune(
        checkpoint path: String, output: String, source: (any PruningCalibration)?,
        progress: (Compiler.Progress) -> Void = { _ in }
    ) throws(LatheError) -> PruningReport {
        let isCalibrated = options.criterion == .wanda
        let checkpoint = try Checkpoint(path: path, access: .streamed)
        let job = try PruningJob(
            checkpoint, options, budget: memoryBudget, tokens: isCalibrated ? source?.tokenCount ?? 0 : 0,
            faults: faults)
        if isCalibrated && source == nil {
            throw LatheError(
                .invalidRequest, "Wanda weighs weights by their inputs and needs a calibration text for that.")
        }
        let folder = try AtomicFolder(output, outside: path, faultInjection: faults.file)
        let fixed = try job.ledger.reserve(job.plan.fixed, .windows, for: "what is read and written at once")
        defer { withExtendedLifetime(fixed) {} }

        let total = job.byteCount + checkpoint.weights.files.reduce(0) { $0 + $1.fileByteCount }
        var completed = 0
        func advance(_ name: String, _ tensor: TensorInfo) {
            progress(.init(tensor: name, completedBytes: completed, totalBytes: total))
            completed += tensor.byteCount
        }
        var calibrating: MemoryReservation? = try job.ledger.reserve(
            job.plan.whileCalibrating, .windows, for: "the calibration text")
        let matrices = try job.decide(checkpoint, isCalibrated ? source : nil) {
            advance($0.name, $0.entry.tensor)
        }
        withExtendedLifetime(calibrating) {}
        calibrating = nil
        var report = job.report(matrices, checkpoint: checkpoint)
        let pruned = PrunedCheckpoint(
            checkpoint, job, matrices,
            metadata: job.metadata(report, calibrationTokens: isCalibrated ? source?.tokenCount : nil))
        try pruned.write(to: folder) { advance($0.name, $0) }
        progress(.init(tensor: "", completedBytes: total, totalBytes: total))
        report.memory.windowsTaken = job.ledger.peak(.windows)
        return report
    }
}
