public import LatheFormat
import Synchronization

/// What an engine is made for; nil takes the best default for the model and the machine.
public struct EngineOptions: Sendable, Hashable {
    /// Compute threads; nil: what affinity, CPU quota and cores allow.
    public var threads: Int?
    /// Tokens of prompt and continuation together; nil: the model's own context length, which it may not exceed.
    public var contextLength: Int?
    /// Sessions that may exist at once.
    public var maximumSessions: Int = 1
    /// Tokens that all sessions may hold together, in whole cache blocks (64 tokens); nil: a whole context each. With fewer,
    /// `makeSession(tokens:)` says how many each may hold.
    public var keyValueTokens: Int?
    /// nil: float16 for quantized weights, float32 for float32 weights.
    public var keyValueType: KeyValueType?
    /// Prompt tokens that go through the model in one pass; a quarter of them while other sessions decode. Larger is a little
    /// faster, takes more memory, and delays other sessions' tokens; no result depends on it.
    public var prefillChunk: Int = 256
    /// Lowers the instruction-set level by name; nil: `LATHE_ISA`, else the machine's best.
    public var instructionSet: String?
    /// The most rows of logits that one pass of the head computes, where more are wanted; nil: few, for little memory.
    package var maximumLogitRows: Int?
    /// Bytes that the whole process may take; nil: the limit under which the process lives, where it has one.
    public var memoryBudget: Int?
    /// How the weights of a file became memory (`Model.open`); a plan counts accordingly.
    public var weightPlacement: WeightPlacement = .map
    /// Whether weights and threads are spread over the memory nodes of a machine that has several. Weights that were mapped
    /// are then copied, each matrix to the nodes that read it.
    public var numa: NUMAMode = .auto
    /// The machine, or what stands for it in tests.
    package var nodeSystem: NodeSystem = .machine
    /// What the process takes beside the engine. Another program than this package's states its own.
    public var runtimeBytes: Int = MemoryPlan.runtimeByteCount
    /// What a service holds for its connections and queues: planned, and kept by the service itself.
    public var serverBytes: Int = 0

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
    /// The memory nodes that threads and weights are spread over.
    public let nodes: NodePlacement
    /// Tokens that one session may hold.
    public let contextLength: Int
    public let keyValueType: KeyValueType
    public let instructionSet: InstructionSet
    let scheduler: Scheduler
    /// What was planned; no more is ever taken.
    public let plan: MemoryPlan
    let ledger: MemoryLedger
    private let computeThread: ComputeThread
    private let tokenizerReservation: MemoryReservation
    private let maximumSessions: Int
    private let occupancy = Mutex(Occupancy())

    /// What sessions have been promised.
    private struct Occupancy {
        var sessions = 0
        var blocks = 0
        var onRelease: (@Sendable () -> Void)?
    }

    /// Plans with `options` and makes an engine of the plan.
    ///
    /// - Throws: `budget` where the plan does not fit, naming options that would make it fit.
    public convenience init(model: Model, options: EngineOptions = EngineOptions()) throws(LatheError) {
        try self.init(model: model, plan: try MemoryPlan(model: model, options: options))
    }

    /// Takes the memory that `plan` holds, once and for all.
    ///
    /// - Throws: `budget` where the plan does not fit its budget; `invalidRequest` where it was made for another model.
    public convenience init(model: Model, plan: MemoryPlan) throws(LatheError) {
        try self.init(model: model, plan: plan, ledger: plan.makeLedger())
    }

    init(model: Model, plan: MemoryPlan, ledger: MemoryLedger) throws(LatheError) {
        guard model.file.outline.graph == plan.outline.graph, model.configuration == plan.outline.configuration else {
            throw LatheError(.invalidRequest, "The memory plan was made for another model than \(model.file.path).")
        }
        try plan.requireFit()
        let layout = plan.layout
        self.model = model
        self.plan = plan
        self.ledger = ledger
        threads = layout.threads
        nodes = layout.nodes
        contextLength = layout.contextLength
        keyValueType = layout.keyValues.type
        instructionSet = layout.instructionSet
        maximumSessions = layout.sessions
        tokenizerReservation = try ledger.reserve(
            plan.byteCount(.tokenizer), .tokenizer, for: "the tokenizer's tables")
        let executor = try Executor(file: model.file, layout: layout, ledger: ledger)
        let scheduler = Scheduler(executor: executor, prefillChunk: layout.prefillChunk)
        self.scheduler = scheduler
        computeThread = try ComputeThread { scheduler.run() }
    }

    deinit {
        scheduler.shutDown()
        // The last reference may go on the compute thread itself, when a stream's buffer dies there: it cannot join itself.
        if !computeThread.isCurrent { computeThread.join() } else { computeThread.detach() }
    }

    /// A new timeline, with cache blocks of its own set aside until its last reference goes.
    ///
    /// - Parameter tokens: the most that it may hold, prompts and continuations together; nil: a whole context.
    /// - Throws: `budget` where `EngineOptions.maximumSessions` sessions exist already, or those that exist have been
    ///   promised too much of the cache; `invalidRequest` for more tokens than the context, or fewer than one.
    public func makeSession(tokens: Int? = nil) throws(LatheError) -> Session {
        let tokens = tokens ?? contextLength
        guard (1...contextLength).contains(tokens) else {
            throw LatheError(
                .invalidRequest, "A session of \(tokens) tokens was asked; the context has \(contextLength).")
        }
        let blocks = KeyValueLayout.blocks(forTokens: tokens)
        try occupancy.withLock { occupancy throws(LatheError) in
            guard occupancy.sessions < maximumSessions else {
                throw LatheError(
                    .budget, "The engine was made for \(maximumSessions) session(s), and all of them are in use.")
            }
            let left = plan.layout.blockCount - occupancy.blocks
            guard blocks <= left else {
                throw LatheError(
                    .budget,
                    """
                    A session of \(tokens) tokens takes \(blocks) cache block(s); of the engine's \
                    \(plan.layout.blockCount) no more than \(left) are free.
                    """)
            }
            occupancy.sessions += 1
            occupancy.blocks += blocks
        }
        return Session(engine: self, tokens: tokens)
    }

    /// The last reference to a session has gone, and its blocks have gone back.
    func sessionEnded(tokens: Int) {
        let onRelease = occupancy.withLock { occupancy in
            occupancy.sessions -= 1
            occupancy.blocks -= KeyValueLayout.blocks(forTokens: tokens)
            return occupancy.onRelease
        }
        onRelease?()
    }

    /// Calls `body` whenever a session has ended, on whatever thread let go of it: for a queue of those who wait for one.
    package func onSessionEnd(_ body: (@Sendable () -> Void)?) { occupancy.withLock { $0.onRelease = body } }

    /// Sessions that exist.
    public var sessionCount: Int { occupancy.withLock { $0.sessions } }

    /// What was planned for each category, and what the engine has taken of it. The program's own is not counted here.
    public var memory: [MemoryUse] {
        MemoryCategory.allCases.map {
            MemoryUse(
                category: $0, plannedBytes: plan.byteCount($0), currentBytes: ledger.current($0),
                peakBytes: ledger.peak($0))
        }
    }

    /// Tokens that all sessions may hold together, and how many of them sessions have been promised.
    public var keyValueTokens: (total: Int, promised: Int) {
        let blocks = occupancy.withLock { $0.blocks }
        return (plan.layout.blockCount * KeyValueLayout.blockTokens, blocks * KeyValueLayout.blockTokens)
    }
}

/// A category of an engine's memory: what its plan holds, and what was taken.
public struct MemoryUse: Sendable, Hashable {
    public let category: MemoryCategory
    public let plannedBytes: Int
    public let currentBytes: Int
    public let peakBytes: Int
}
