import CKernels
import LatheFormat

/// Runs the plan over rows of tokens: the only place where kernels meet memory.
///
/// All memory is allocated at the start. A step's rows may belong to any number of timelines; each row's result depends
/// on its own timeline alone, so a batch mate or another split of a prompt changes no bit.
@safe
final class Executor: @unchecked Sendable {
    // Sendable: made by whoever opens the engine, then handed to the compute thread, which alone touches it from then on.

    /// Consecutive tokens of one timeline, standing in rows `firstRow ..< firstRow + count` of the step.
    struct Segment {
        var table: BlockTable
        var firstPosition: Int
        var firstRow: Int
        var count: Int
    }

    let configuration: ModelConfiguration
    /// The most rows of one step, and the most logits rows of one call.
    let maximumRows: Int
    let maximumLogitRows: Int
    let plan: ExecutionPlan
    let cache: KeyValueCache
    /// What a step is given of `parameters`, in their order: plain values, which nobody counts references of.
    let weights: UnsafeMutablePointer<Weight>
    private let parameters: [BoundParameter]
    let threads: Int
    /// Of `threads`, those that choose tokens.
    let choosers: Int
    let instructionSet: InstructionSet
    let nodes: NodePlacement
    let features: UInt32
    let vector: UnsafePointer<lathe_vector_kernel>

    // The arena.
    let buffers: [ArenaBuffer]
    let ids: UnsafeMutablePointer<Int32>
    let positions: UnsafeMutablePointer<Int32>
    let quantized: UnsafeMutableRawPointer
    let quantizedStride: Int
    let rowQuantization: UnsafeMutablePointer<lathe_row_quantization>
    let attentionScratch: [UnsafeMutablePointer<Float>]
    /// Of each thread, for the panels that `lathe_linear_qd8_run` expands.
    let expansionScratch: [UnsafeMutablePointer<Int8>]
    /// Of a head with 16-bit inputs: the scale of each row, and of each thread, its two products.
    let headScales: UnsafeMutablePointer<Float>
    let halvesScratch: [UnsafeMutablePointer<Float>]
    let headInput: UnsafeMutablePointer<Float>
    let headInputStride: Int
    let logits: UnsafeMutablePointer<Float>
    let logitsStride: Int
    /// What the read probe read, one sum a thread, so that no compiler drops the reading.
    let probeSums: UnsafeMutablePointer<UInt64>
    /// The weights that a decode step reads whole: every matrix and its scales, merged where they lie side by side
    /// unless they are spread over nodes.
    let probeRegions: [UnsafeRawBufferPointer]
    /// Their bytes.
    let stepWeightBytes: Int
    /// Bytes of all weights as they are kept in memory, and of those that were put on the nodes that read them.
    let residentWeightBytes: Int
    let placedWeightBytes: Int
    private let storage: [AlignedBuffer]
    /// For what the scheduler keeps.
    private let samplingReservation: MemoryReservation

    // The step in progress, read by `perform` on every thread.
    var segments: [Segment] = []
    var rowCount = 0
    /// Rows of the linear operation in progress: `rowCount`, or fewer at the head.
    var linearRows = 0
    var work: Work = unsafe .idle

    /// Told what the compute thread is at; nil but in tests.
    var watcher: (@Sendable (ComputePhase) -> Void)?

    @unsafe
    struct ArenaBuffer {
        let base: UnsafeMutablePointer<Float>
        /// Floats from one row to the next.
        let stride: Int
    }

    init(file: ModelFile, layout: EngineLayout, ledger: MemoryLedger) throws(LatheError) {
        configuration = file.configuration
        plan = layout.execution
        let arena = layout.arena
        maximumRows = arena.maximumRows
        maximumLogitRows = arena.maximumLogitRows
        threads = arena.threads
        choosers = arena.choosers
        instructionSet = layout.instructionSet
        nodes = layout.nodes
        features = layout.instructionSet.features
        cache = try KeyValueCache(layout: layout.keyValues, blockCount: layout.blockCount, ledger: ledger)
        let features = features
        unsafe parameters = try file.graph.parameters.map { (parameter) throws(LatheError) in
            unsafe try BoundParameter(
                parameter, in: file, features: features, source: layout.weights.source, nodes: layout.nodes,
                ledger: ledger)
        }
        placedWeightBytes = unsafe parameters.reduce(0) { unsafe $0 + $1.placedByteCount }
        residentWeightBytes = unsafe parameters.reduce(0) { sum, parameter in
            unsafe parameter.parts.reduce(sum) { $0 + $1.count }
        }
        let parameterList = AlignedBuffer(byteCount: unsafe MemoryLayout<Weight>.stride * parameters.count)
        unsafe weights = parameterList.elements(of: Weight.self)
        for index in unsafe parameters.indices { unsafe (weights + index).initialize(to: parameters[index].weight) }
        unsafe vector = lathe_vector_select(features)

        var storage = [parameterList]
        func allocate<T>(_ type: T.Type, _ byteCount: Int) throws(LatheError) -> UnsafeMutablePointer<T> {
            let buffer = try ledger.buffer(
                byteCount, .activations, for: "the activations of \(arena.maximumRows) rows")
            storage.append(buffer)
            return unsafe buffer.elements(of: type)
        }
        func allocate<T>(_ type: T.Type, _ region: ArenaLayout.Region) throws(LatheError) -> UnsafeMutablePointer<T> {
            unsafe try allocate(type, arena.byteCount(of: region))
        }
        func allocatePerThread<T>(
            _ type: T.Type, _ region: ArenaLayout.Region
        ) throws(LatheError) -> [UnsafeMutablePointer<T>] {
            unsafe try (0..<arena.threads).map { _ throws(LatheError) in unsafe try allocate(type, region) }
        }
        unsafe buffers = try arena.bufferStrides.indices.map { index throws(LatheError) in
            unsafe ArenaBuffer(
                base: try allocate(Float.self, arena.byteCount(ofBuffer: index)), stride: arena.bufferStrides[index])
        }
        unsafe ids = try allocate(Int32.self, .ids)
        unsafe positions = try allocate(Int32.self, .positions)
        quantizedStride = arena.quantizedStride
        unsafe quantized = UnsafeMutableRawPointer(try allocate(UInt8.self, .quantized))
        unsafe rowQuantization = try allocate(lathe_row_quantization.self, .rowQuantization)
        unsafe attentionScratch = try allocatePerThread(Float.self, .attention)
        unsafe expansionScratch = try allocatePerThread(Int8.self, .expansion)
        unsafe halvesScratch = try allocatePerThread(Float.self, .halves)
        unsafe headScales = try allocate(Float.self, .headScales)
        headInputStride = arena.headInputStride
        unsafe headInput = try allocate(Float.self, .headInput)
        logitsStride = arena.logitsStride
        unsafe logits = try allocate(Float.self, .logits)
        unsafe probeSums = try allocate(UInt64.self, .probeSums)
        unsafe probeRegions = Self.regions(readBy: plan, of: parameters, merging: !nodes.isActive)
        stepWeightBytes = unsafe probeRegions.reduce(0) { $0 + $1.count }
        self.storage = storage
        samplingReservation = try ledger.reserve(
            arena.byteCount(of: .sampling), .activations, for: "the choice of tokens")
        // Each has a row at least.
        segments.reserveCapacity(maximumRows)
    }

    /// The formats in which quantized weights are kept in memory.
    var weightFormats: Set<UInt32> {
        unsafe Set(
            parameters.compactMap { unsafe $0.weight.quantized.map { unsafe UInt32($0.pointee.format.rawValue) } })
    }

    private static func regions(
        readBy plan: ExecutionPlan, of parameters: [BoundParameter], merging: Bool
    ) -> [UnsafeRawBufferPointer] {
        var read: Set<Int> = [plan.head.weight]
        for case .linear(let linear) in plan.steps { read.insert(linear.weight) }
        var regions: [UnsafeRawBufferPointer] = unsafe []
        // By index: swift-format joins the two words of `for unsafe`.
        let parts = unsafe read.sorted().flatMap { unsafe parameters[$0].parts }
        for index in unsafe parts.indices {
            let part = unsafe parts[index]
            if merging, let last = unsafe regions.last, unsafe last.baseAddress! + last.count == part.baseAddress! {
                unsafe regions[regions.count - 1] = UnsafeRawBufferPointer(
                    start: last.baseAddress!, count: last.count + part.count)
            } else {
                unsafe regions.append(part)
            }
        }
        return unsafe regions
    }

    // MARK: A step

    func enter(_ phase: ComputePhase) { watcher?(phase) }

    /// Closes the step, and lets go of its timelines.
    func end() {
        segments.removeAll(keepingCapacity: true)
        rowCount = 0
    }

    /// Adds tokens of a timeline to the step; they are stored at `firstPosition …` of `table`, which holds all before.
    func append(_ tokens: ArraySlice<Int32>, table: BlockTable, firstPosition: Int) {
        precondition(rowCount + tokens.count <= maximumRows, "more rows than the engine was made for")
        cache.grow(table, toTokens: firstPosition + tokens.count)
        segments.append(
            Segment(table: table, firstPosition: firstPosition, firstRow: rowCount, count: tokens.count))
        for (offset, token) in tokens.enumerated() {
            precondition(token >= 0 && token < configuration.vocabularySize, "token id outside the vocabulary")
            unsafe ids[rowCount + offset] = token
            unsafe positions[rowCount + offset] = Int32(firstPosition + offset)
        }
        rowCount += tokens.count
    }

    /// Computes every row up to the head's input, storing keys and values on the way.
    func forward() {
        for step in plan.steps { run(step) }
    }

    /// Computes the logits of `rows` of this step (at most `maximumLogitRows`); read them with `withLogits`.
    func computeLogits(rows: some Collection<Int>) {
        precondition(rows.count <= maximumLogitRows)
        let input = plan.head.input
        for (index, row) in rows.enumerated() {
            unsafe (headInput + index * headInputStride).update(from: address(input, row: row), count: input.width)
        }
        runLinear(plan.head, rows: rows.count, isHead: true)
    }

    /// The logits of the `index`-th row that `computeLogits` was asked for: one float for each token id.
    func withLogits<R, E: Error>(_ index: Int, _ body: (Span<Float>) throws(E) -> R) throws(E) -> R {
        precondition(index < maximumLogitRows)
        return try unsafe body(
            Span(_unsafeStart: logits + index * logitsStride, count: configuration.vocabularySize))
    }

    /// log Σ exp(logit) of that row.
    func logSumExp(_ index: Int) -> Float {
        precondition(index < maximumLogitRows)
        return unsafe vector.pointee.log_sum_exp(logits + index * logitsStride, configuration.vocabularySize)
    }

    /// The token with the greatest logit of that row, of equals the first; nil where a logit is not finite.
    func likeliest(_ index: Int) -> Int? {
        precondition(index < maximumLogitRows)
        let count = configuration.vocabularySize
        let greatest = unsafe vector.pointee.greatest(logits + index * logitsStride, count)
        return greatest < count ? greatest : nil
    }
}

/// What kernels are given of a parameter; valid while its `BoundParameter` lives.
@unsafe
struct Weight {
    enum Encoding { case rows, panels, quantized }
    let encoding: Encoding
    /// Outputs and inputs; 1 and the length of a vector.
    let columns: Int
    let depth: Int
    let base: UnsafeRawPointer
    /// What the kernels of the int8 linear layer are given; nil for float32.
    let quantized: UnsafePointer<lathe_weights>?

    var floats: UnsafePointer<Float> { unsafe base.assumingMemoryBound(to: Float.self) }
}

/// A parameter's tensors, found in the file and checked, and the memory that they lie in.
@unsafe
struct BoundParameter {
    let weight: Weight
    /// Keep the bytes under the pointers alive.
    private let views: [ByteView]
    /// Of the file's bytes; buffers carry their own.
    private let reservation: MemoryReservation?
    private let description: AlignedBuffer
    /// Of pages that were put on the nodes that read them.
    let placedByteCount: Int

    /// The bytes of each part; they stay where they are while this parameter lives.
    var parts: [UnsafeRawBufferPointer] { unsafe views.map { view in unsafe view.withUnsafeBytes { unsafe $0 } } }

    /// - Parameters:
    ///   - features: of the instruction set; where that reads the weights' format slower than the larger one which it encodes,
    ///     the larger one is made here.
    ///   - nodes: over which a matrix is spread, as it is shared out to threads.
    init(
        _ parameter: Parameter, in file: ModelFile, features: UInt32, source: WeightResidence.Source,
        nodes: NodePlacement, ledger: MemoryLedger
    ) throws(LatheError) {
        let description = AlignedBuffer(byteCount: unsafe MemoryLayout<lathe_weights>.stride)
        unsafe self.description = description
        let stored = try ledger.reserve(parameter.byteCount, .weights, for: quoted(parameter.name))
        var views: [ByteView] = []
        for part in parameter.parts { views.append(try file.bytes(of: part)) }
        let resident = ResidentFormat.expanding(parameter, features)
        var shares = PanelShares(parameter, nodes)
        func kept(_ view: ByteView) throws(LatheError) -> ByteView {
            guard source == .leavingMap else {
                shares.place(address: unsafe UInt(bitPattern: Self.address(view)), byteCount: view.count)
                return view
            }
            let copy = try ledger.buffer(view.count, .weights, for: quoted(parameter.name))
            // Before a byte is written: its pages then come from their nodes at once.
            shares.place(address: unsafe UInt(bitPattern: copy.elements(of: UInt8.self)), byteCount: view.count)
            copy.copy(view, at: 0)
            return copy.view
        }
        var quantized: UnsafePointer<lathe_weights>?
        if let panels = parameter.encoding.quantized {
            let weights = unsafe description.elements(of: lathe_weights.self)
            unsafe weights.pointee = Self.describe(parameter, panels, views)
            if let resident {
                let values = try ledger.buffer(
                    resident.panelBytes(of: parameter), .weights, for: "\(quoted(parameter.name)), expanded")
                shares.place(
                    address: unsafe UInt(bitPattern: values.elements(of: UInt8.self)), byteCount: values.byteCount)
                unsafe Self.expand(weights, parameter, to: resident, features, into: values)
                views =
                    [values.view] + (try resident.keptParts.map { index throws(LatheError) in try kept(views[index]) })
                let dense = QuantizedPanels(groupSize: resident.format == LATHE_QC4W ? panels.groupSize : nil)
                unsafe weights.pointee = Self.describe(parameter, dense, views)
            } else {
                if let starts = unsafe weights.pointee.starts {
                    shares.pack(
                        share: { unsafe Executor.panelShare(weights, $0, $1) }, start: { unsafe Int(starts[$0]) })
                }
                views = try views.map(kept)
                unsafe weights.pointee = Self.describe(parameter, panels, views)
            }
            unsafe quantized = UnsafePointer(weights)
        } else {
            views = try views.map(kept)
        }
        unsafe placedByteCount = shares.placedByteCount
        if source == .leavingMap { file.dropPages(upTo: parameter.parts.last!) }
        unsafe self.views = views
        unsafe reservation = source == .leavingMap ? nil : stored
        unsafe weight = Weight(
            encoding: parameter.encoding == .panels ? .panels : parameter.encoding == .rows ? .rows : .quantized,
            columns: parameter.columns, depth: parameter.depth, base: Self.address(views[0]), quantized: quantized)
    }

    private static func address(_ view: ByteView) -> UnsafeRawPointer {
        unsafe view.withUnsafeBytes { $0.baseAddress! }
    }

    /// - Parameter views: of `Parameter.parts`, in their order.
    private static func describe(
        _ parameter: Parameter, _ panels: QuantizedPanels, _ views: [ByteView]
    ) -> lathe_weights {
        let parts = unsafe views.map { unsafe address($0) }
        var weights = unsafe lathe_weights()
        unsafe weights.format = panels.kernelFormat
        unsafe weights.columns = parameter.columns
        unsafe weights.depth = parameter.depth
        unsafe weights.values = parts[0]
        unsafe weights.scales = parts[1].assumingMemoryBound(to: Float.self)
        unsafe weights.column_sums = parts[2].assumingMemoryBound(to: Int32.self)
        var next = 3
        if let groupSize = panels.groupSize {
            unsafe weights.group_size = groupSize
            unsafe weights.multipliers = parts[next].assumingMemoryBound(to: Int8.self)
            next += 1
        }
        if panels.packedByteCount != nil {
            unsafe weights.masks = parts[next].assumingMemoryBound(to: UInt64.self)
            unsafe weights.starts = parts[next + 1].assumingMemoryBound(to: UInt32.self)
        }
        return unsafe weights
    }

    /// The panels of `weights` in a dense format.
    private static func expand(
        _ weights: UnsafePointer<lathe_weights>, _ parameter: Parameter, to resident: ResidentFormat,
        _ features: UInt32, into buffer: AlignedBuffer
    ) {
        let panels = (parameter.columns + 15) / 16
        if resident.format == LATHE_QC4W {
            unsafe lathe_unpack_qc4w_sparse(weights, 0, panels, buffer.elements(of: UInt8.self))
        } else {
            let kernel = unsafe lathe_expand_select(weights.pointee.format, features)!
            unsafe kernel.pointee.run(weights, 0, panels, buffer.elements(of: Int8.self))
        }
    }
}

extension QuantizedPanels {
    var kernelFormat: lathe_weight_format {
        switch (groupSize, packedByteCount) {
        case (nil, nil): LATHE_QC8W
        case (.some, nil): LATHE_QC4W
        case (nil, .some): LATHE_QC8W_SPARSE
        case (.some, .some): LATHE_QC4W_SPARSE
        }
    }
}
