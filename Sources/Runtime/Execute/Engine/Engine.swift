public import LatheFormat
import Synchronization

/// What an engine is made for; nil takes the best default for the model and the machine.
public struct EngineOptions: Sendable, Hashable {
    /// Compute threads; nil: what affinity, CPU quota and cores allow.
    public var threads: Int?
    /// Tokens of prompt and continuation together; nil: the model's own context length, which it may not exceed.
    public var contextLength: Int?
    /// Sessions that may exist at once; each may hold a whole context.
    public var maximumSessions: Int = 1
    /// nil: float16 for quantized weights, float32 for float32 weights.
    public var keyValueType: KeyValueType?
    /// Prompt tokens that go through the model in one pass. Larger is a little faster, takes more memory, and delays
    /// other sessions' tokens; no result depends on it.
    public var prefillChunk: Int = 256
    /// Lowers the instruction-set level by name; nil: `LATHE_ISA`, else the machine's best.
    public var instructionSet: String?
    /// The most rows of logits that one pass of the head computes, where more are wanted; nil: few, for little memory.
    package var maximumLogitRows: Int?

    public init() {}
}

/// A loaded model with all the memory that it will ever use, and the one thread team that computes.
///
///     let engine = try Engine(model: try Model.open("novelist.lathe"))
///     let session = try engine.makeSession()
///
/// The engine lives as long as it or one of its sessions is referenced; its thread ends with it.
public final class Engine: Sendable {
    public let model: Model
    public let threads: ThreadCount
    /// Tokens that one session may hold.
    public let contextLength: Int
    public let keyValueType: KeyValueType
    public let instructionSet: InstructionSet
    let scheduler: Scheduler
    private let computeThread: ComputeThread
    private let maximumSessions: Int
    private let sessions = Atomic<Int>(0)
    /// Every session may have a row in one step.
    private static let sessionLimit = 1 << 16

    public init(model: Model, options: EngineOptions = EngineOptions()) throws(LatheError) {
        let configuration = model.configuration
        func requirePositive(_ value: Int, _ what: String) throws(LatheError) {
            guard value >= 1 else { throw LatheError(.invalidRequest, "\(what) is \(value); it must be at least 1.") }
        }
        self.model = model
        threads = try ThreadCount(requested: options.threads)
        contextLength = options.contextLength ?? configuration.contextLength
        try requirePositive(contextLength, "The context length")
        guard contextLength <= configuration.contextLength else {
            throw LatheError(
                .invalidRequest,
                "A context of \(contextLength) was asked; the model has \(configuration.contextLength) positions.")
        }
        try requirePositive(options.maximumSessions, "The number of sessions")
        guard options.maximumSessions <= Self.sessionLimit else {
            throw LatheError(
                .invalidRequest,
                "\(options.maximumSessions) sessions were asked; an engine serves \(Self.sessionLimit) at most.")
        }
        try requirePositive(options.prefillChunk, "The prefill chunk")
        keyValueType = options.keyValueType ?? (model.file.isQuantized ? .float16 : .float32)
        instructionSet = try InstructionSet.selected(options.instructionSet)
        maximumSessions = options.maximumSessions

        let layout = KeyValueLayout(type: keyValueType, configuration: configuration)
        let cache = try KeyValueCache(
            layout: layout,
            blockCount: maximumSessions * KeyValueLayout.blocks(forTokens: contextLength))
        // No step has more prompt tokens than the sessions hold together; sessions and context are bounded, so this fits.
        let prefillChunk = min(options.prefillChunk, contextLength * maximumSessions)
        let executor = try Executor(
            file: model.file, cache: cache, contextLength: contextLength,
            maximumRows: prefillChunk + maximumSessions,
            maximumLogitRows: max(maximumSessions, options.maximumLogitRows ?? min(16, contextLength)),
            threads: threads.count,
            features: instructionSet.features)
        let scheduler = Scheduler(executor: executor, prefillChunk: prefillChunk)
        self.scheduler = scheduler
        computeThread = try ComputeThread { scheduler.run() }
    }

    deinit {
        scheduler.shutDown()
        // The last reference may go on the compute thread itself, when a stream's buffer dies there: it cannot join itself.
        if !computeThread.isCurrent { computeThread.join() } else { computeThread.detach() }
    }

    /// - Throws: `budget` where `EngineOptions.maximumSessions` sessions exist already.
    public func makeSession() throws(LatheError) -> Session {
        let (_, count) = sessions.add(1, ordering: .relaxed)
        guard count <= maximumSessions else {
            sessions.subtract(1, ordering: .relaxed)
            throw LatheError(
                .budget, "The engine was made for \(maximumSessions) session(s), and all of them are in use.")
        }
        return Session(engine: self)
    }

    func unreserveSession() { sessions.subtract(1, ordering: .relaxed) }

}
