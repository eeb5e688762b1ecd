import CKernels
import LatheFormat

/// Every size that an engine will ever have, from a model's header and the options: what the plan adds up is what the
/// engine then allocates.
struct EngineLayout: Sendable {
    let configuration: ModelConfiguration
    let execution: ExecutionPlan
    let threads: ThreadCount
    let nodes: NodePlacement
    let contextLength: Int
    let sessions: Int
    let keyValues: KeyValueLayout
    let instructionSet: InstructionSet
    let prefillChunk: Int
    let weights: WeightResidence
    let arena: ArenaLayout
    let placement: WeightPlacement

    /// Blocks of keys and values, for all sessions together.
    let blockCount: Int
    /// nil where it is more than a number holds.
    var keyValueByteCount: Int? {
        let (bytes, overflows) = keyValues.blockBytes.multipliedReportingOverflow(by: blockCount)
        return overflows ? nil : bytes
    }

    /// Every session may have a row in one step.
    static let sessionLimit = 1 << 16

    init(_ outline: ModelOutline, _ options: EngineOptions) throws(LatheError) {
        func requirePositive(_ value: Int, _ what: String) throws(LatheError) {
            guard value >= 1 else { throw LatheError(.invalidRequest, "\(what) is \(value); it must be at least 1.") }
        }
        configuration = outline.configuration
        threads = try ThreadCount(requested: options.threads)
        nodes = NodePlacement(options.numa, threads: threads.count, system: options.nodeSystem)
        contextLength = options.contextLength ?? configuration.contextLength
        try requirePositive(contextLength, "The context length")
        guard contextLength <= configuration.contextLength else {
            throw LatheError(
                .invalidRequest,
                "A context of \(contextLength) was asked; the model has \(configuration.contextLength) positions.")
        }
        sessions = options.maximumSessions
        try requirePositive(sessions, "The number of sessions")
        guard sessions <= Self.sessionLimit else {
            throw LatheError(
                .invalidRequest,
                "\(sessions) sessions were asked; an engine serves \(Self.sessionLimit) at most.")
        }
        let contextBlocks = KeyValueLayout.blocks(forTokens: contextLength)
        if let tokens = options.keyValueTokens {
            guard tokens >= contextLength else {
                throw LatheError(
                    .invalidRequest,
                    """
                    Keys and values of \(tokens) tokens were asked for all sessions together; one context of \
                    \(contextLength) must fit.
                    """)
            }
            blockCount = min(KeyValueLayout.blocks(forTokens: tokens), sessions * contextBlocks)
        } else {
            blockCount = sessions * contextBlocks
        }
        try requirePositive(options.prefillChunk, "The prefill chunk")
        // No step has more prompt tokens than the sessions hold together; sessions and context are bounded, so this fits.
        prefillChunk = min(options.prefillChunk, contextLength * sessions)
        keyValues = KeyValueLayout(
            type: options.keyValueType ?? (outline.isQuantized ? .float16 : .float32), configuration: configuration)
        instructionSet = try InstructionSet.selected(options.instructionSet)
        placement = options.weightPlacement
        execution = ExecutionPlan(graph: outline.graph)
        weights = WeightResidence(
            outline.graph, features: instructionSet.features, placement: placement, nodes: nodes)
        arena = ArenaLayout(
            execution, configuration: configuration, contextLength: contextLength,
            maximumRows: prefillChunk + sessions,
            maximumLogitRows: max(sessions, options.maximumLogitRows ?? min(16, contextLength)),
            threads: threads.count, choosers: min(threads.count, sessions), expansionBytes: weights.scratchBytes)
    }
}

/// Bytes of weights as they are kept, which is as the file has them unless the instruction set reads a packed format slower
/// than what it encodes; and in memory of the process's own where they are spread over nodes.
struct WeightResidence: Sendable {
    enum Source {
        /// Every parameter is used where the file's bytes lie.
        case inPlace
        /// Some are expanded, or all are spread over nodes; the others are copied, and the map is given back from front to back. Were any byte of it still
        /// read, the kernel would bring its whole neighbourhood back, up to 2 MB at a time.
        case leavingMap
        /// Some are expanded, beside a copy of the whole file.
        case besideCopy
    }

    let source: Source
    /// When the model is loaded.
    private(set) var byteCount = 0
    /// While it is loaded: the whole file is checked first, then one parameter after the other is expanded or copied.
    private(set) var peakByteCount = 0
    /// The most bytes that one thread expands panels into while it computes.
    private(set) var scratchBytes = 64

    init(_ graph: Graph, features: UInt32, placement: WeightPlacement, nodes: NodePlacement) {
        let isExpanded = graph.parameters.contains { ResidentFormat.expanding($0, features) != nil }
        // A map is shared with whoever else maps the file, and lies in the page cache: only a copy can be placed.
        let leavesMap = placement != .copy && (isExpanded || nodes.isActive)
        source = leavesMap ? .leavingMap : isExpanded ? .besideCopy : .inPlace
        byteCount = graph.parameters.reduce(0) { $0 + $1.byteCount }
        peakByteCount = byteCount
        for parameter in graph.parameters {
            if let panels = parameter.encoding.quantized {
                let resident = ResidentFormat(panels.kernelFormat, features)
                scratchBytes = max(scratchBytes, lathe_linear_qd8_scratch_bytes(resident.format, parameter.depth))
            }
            switch (source, ResidentFormat.expanding(parameter, features)) {
            case (.inPlace, _), (.besideCopy, nil): continue
            case (.besideCopy, let resident?): byteCount += resident.panelBytes(of: parameter)
            case (.leavingMap, nil):
                // For a moment twice.
                peakByteCount = max(peakByteCount, byteCount + parameter.byteCount)
            case (.leavingMap, let resident?):
                byteCount += resident.panelBytes(of: parameter) + resident.keptBytes(of: parameter)
                peakByteCount = max(peakByteCount, byteCount)
                byteCount -= parameter.byteCount
            }
            peakByteCount = max(peakByteCount, byteCount)
        }
    }
}

/// In which form a matrix is kept in memory.
struct ResidentFormat {
    let format: lathe_weight_format

    /// A format may be best kept as one that itself is best kept as another.
    init(_ stored: lathe_weight_format, _ features: UInt32) {
        var format = stored
        while true {
            let next = lathe_linear_qd8_resident_format(format, features)
            if next == format { break }
            format = next
        }
        self.format = format
    }

    /// nil where `parameter` is kept as it is stored.
    static func expanding(_ parameter: Parameter, _ features: UInt32) -> ResidentFormat? {
        guard let panels = parameter.encoding.quantized else { return nil }
        let resident = ResidentFormat(panels.kernelFormat, features)
        return resident.format == panels.kernelFormat ? nil : resident
    }

    /// Of the expanded panels.
    func panelBytes(of parameter: Parameter) -> Int {
        format == LATHE_QC4W
            ? lathe_qc4w_bytes(parameter.columns, parameter.depth)
            : lathe_qc8w_bytes(parameter.columns, parameter.depth)
    }

    /// The parts that are used beside the expanded panels: scales, sums, multipliers.
    var keptParts: [Int] { format == LATHE_QC4W ? [1, 2, 3] : [1, 2] }

    func keptBytes(of parameter: Parameter) -> Int {
        let parts = parameter.parts
        return keptParts.reduce(0) { $0 + parts[$1].byteCount }
    }
}

/// The executor's working memory: what one pass over the weights computes.
struct ArenaLayout: Sendable {
    enum Region: CaseIterable {
        case ids, positions
        /// Activations as integers, for the widest storage that a kernel asks for, and what scales them.
        case quantized, rowQuantization
        /// Of each thread.
        case attention, expansion, halves
        /// A head with 16-bit inputs: the scale of each row.
        case headScales
        case headInput, logits
        /// For the choice of tokens: `SamplingBuffers`, which are memory of their own.
        case sampling
        /// What the read probe read, one sum a thread.
        case probeSums

        var isPerThread: Bool {
            switch self {
            case .attention, .expansion, .halves: true
            default: false
            }
        }
    }

    /// The most rows of one step, and the most logits rows of one call.
    let maximumRows: Int
    let maximumLogitRows: Int
    let threads: Int
    /// Threads that choose tokens at once: no more than there may be sessions.
    let choosers: Int
    /// Floats from one row of each value buffer to the next.
    let bufferStrides: [Int]
    /// Bytes from one row of quantized activations to the next.
    let quantizedStride: Int
    /// Floats.
    let headInputStride: Int
    /// Floats; logits rows start on cache lines.
    let logitsStride: Int
    private let attentionFloats: Int
    private let expansionBytes: Int
    private let halvesFloats: Int
    private let vocabularySize: Int

    init(
        _ plan: ExecutionPlan, configuration: ModelConfiguration, contextLength: Int, maximumRows: Int,
        maximumLogitRows: Int, threads: Int, choosers: Int, expansionBytes: Int
    ) {
        self.maximumRows = maximumRows
        self.maximumLogitRows = maximumLogitRows
        self.threads = threads
        self.choosers = choosers
        self.expansionBytes = expansionBytes
        bufferStrides = plan.bufferWidths.map { $0.roundedUp(to: 16) }
        // 16 bits an element.
        quantizedStride = plan.maximumDepth.roundedUp(to: 64) * 2
        headInputStride = plan.head.input.width.roundedUp(to: 16)
        vocabularySize = configuration.vocabularySize
        logitsStride = vocabularySize.roundedUp(to: 16)
        attentionFloats = lathe_attention_scratch_floats(contextLength, configuration.headDimension)
        halvesFloats = plan.head.activationBits == 16 ? lathe_linear_qd16_scratch_floats() : 0
    }

    /// Of one value buffer. Rows and widths are bounded, so that products fit.
    func byteCount(ofBuffer index: Int) -> Int { 4 * maximumRows * bufferStrides[index] }

    /// Of one region, for one thread where each has its own.
    func byteCount(of region: Region) -> Int {
        // A head with 16-bit inputs has two rows for each.
        let quantizedRows = max(maximumRows, 2 * maximumLogitRows)
        return switch region {
        case .ids, .positions: 4 * maximumRows
        case .quantized: quantizedRows * quantizedStride
        case .rowQuantization: quantizedRows * MemoryLayout<lathe_row_quantization>.stride
        case .attention: 4 * attentionFloats
        case .expansion: expansionBytes
        case .halves: 4 * halvesFloats
        case .headScales: 4 * maximumLogitRows
        case .headInput: 4 * maximumLogitRows * headInputStride
        case .logits: 4 * maximumLogitRows * logitsStride
        case .sampling: choosers * SamplingBuffers.byteCount(vocabularySize: vocabularySize)
        case .probeSums: 8 * threads
        }
    }

    var byteCount: Int {
        let buffers = bufferStrides.indices.reduce(0) { $0 + byteCount(ofBuffer: $1) }
        return Region.allCases.reduce(buffers) { $0 + byteCount(of: $1) * ($1.isPerThread ? threads : 1) }
    }
}
