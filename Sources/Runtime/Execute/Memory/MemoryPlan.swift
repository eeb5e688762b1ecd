public import LatheFormat

/// What an engine will take, to the byte, from a model's header alone; and whether a budget holds it.
///
///     let plan = try MemoryPlan(path: "gpt2.lathe", options: options)
///     guard plan.fits else { … plan.suggestions() … }
///     let engine = try Engine(model: try Model.open("gpt2.lathe"), plan: plan)
///
/// An engine cannot be made without one, and takes nothing that it does not hold.
public struct MemoryPlan: Sendable {
    /// Bytes that the whole process may take; nil: nothing limits it.
    public let budget: Int?
    /// What set the budget: `requested`, or the limit of the process that was found.
    public let budgetSource: String?
    /// Tokens that one session may hold, and sessions that may exist at once.
    public var contextLength: Int { layout.contextLength }
    public var sessions: Int { layout.sessions }
    /// Tokens that all sessions may hold together.
    public var keyValueTokens: Int { layout.blockCount * KeyValueLayout.blockTokens }
    public var keyValueType: KeyValueType { layout.keyValues.type }
    /// The memory nodes that threads and weights will be spread over.
    public var nodes: NodePlacement { layout.nodes }
    package let options: EngineOptions
    let layout: EngineLayout
    let outline: ModelOutline

    /// Plans for the `.lathe` file at `path`, of which the header alone is read.
    ///
    /// - Throws: `invalidRequest` for options that the model does not have; not where the plan exceeds the budget.
    public init(path: String, options: EngineOptions = EngineOptions()) throws(LatheError) {
        try self.init(outline: try ModelOutline.read(path: path), options: options)
    }

    /// Plans for a model that is open; how its file became memory is known then.
    public init(model: Model, options: EngineOptions = EngineOptions()) throws(LatheError) {
        var options = options
        options.weightPlacement = model.placement
        if model.isConvertedInMemory { options.numa = .off }
        try self.init(outline: model.file.outline, options: options)
    }

    package init(outline: ModelOutline, options: EngineOptions) throws(LatheError) {
        self.options = options
        self.outline = outline
        layout = try EngineLayout(outline, options)
        if let requested = options.memoryBudget {
            guard requested >= 1 else {
                throw LatheError(.invalidRequest, "The memory budget is \(requested); it must be at least 1 byte.")
            }
            (budget, budgetSource) = (requested, "requested")
        } else {
            let limit = MemoryLimits.current()
            (budget, budgetSource) = (limit?.bytes, limit?.source)
        }
        guard layout.keyValueByteCount != nil else {
            throw LatheError(
                .budget,
                "\(layout.sessions) sessions of \(layout.contextLength) tokens take more bytes than there are numbers for."
            )
        }
    }

    /// Bytes of a category.
    public func byteCount(_ category: MemoryCategory) -> Int {
        switch category {
        case .weights:
            // Where loading takes more than keeping, the engine's other memory is not written yet.
            max(
                layout.weights.byteCount,
                layout.weights.peakByteCount - layout.keyValueByteCount! - layout.arena.byteCount)
        case .keyValueCache: layout.keyValueByteCount!
        case .activations: layout.arena.byteCount
        case .tokenizer: outline.tokenizerByteCount
        case .runtime: options.runtimeBytes
        case .server: options.serverBytes
        case .windows: 0
        }
    }

    /// Of all categories; more than a number holds counts as the largest number.
    public var totalByteCount: Int {
        MemoryCategory.allCases.reduce(0) { sum, category in
            let (total, overflows) = sum.addingReportingOverflow(byteCount(category))
            return overflows ? .max : total
        }
    }

    public var fits: Bool { budget.map { totalByteCount <= $0 } ?? true }

    /// What the language runtime, libraries, the program and its threads take beside everything else, in this package's
    /// programs. Measured on x86-64 Linux (docs/DESIGN.md, "Memory"); a test holds it.
    public static let runtimeByteCount = 18_000_000

    /// The account that keeps the plan.
    func makeLedger(failing: (@Sendable (Int) -> Bool)? = nil) -> MemoryLedger {
        var limits: [MemoryCategory: Int] = [:]
        for category in MemoryCategory.allCases { limits[category] = byteCount(category) }
        limits[.weights] = layout.weights.peakByteCount
        return MemoryLedger(limits: limits, failing: failing)
    }

    /// - Throws: `budget`, with what would make it fit.
    public func requireFit() throws(LatheError) {
        guard !fits, let budget else { return }
        var message =
            "The plan takes \(totalByteCount) bytes, \(totalByteCount - budget) more than the budget of \(budget) "
            + "(\(budgetSource ?? "requested"))"
        let changes = suggestions().prefix(2).map(\.description)
        message +=
            changes.isEmpty
            ? "; no change of options makes it fit." : ": \(changes.joined(separator: "; or ")) would fit."
        throw LatheError(.budget, message)
    }
}
