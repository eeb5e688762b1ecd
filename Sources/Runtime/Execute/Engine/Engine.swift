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
    private let sessions = Atomic<Int>(0)

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
