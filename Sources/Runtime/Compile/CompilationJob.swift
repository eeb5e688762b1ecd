import LatheFormat

/// One conversion: what will be written, decided before the first weight is read.
struct CompilationJob {
    private let definition: ModelDefinition
    private let recipe: Recipe
    private let plan: RecipePlan
    private let provider: (any WeightProvider)?
    private let memory: ConversionPlan
    private let workspace: Workspace
    private let sourceHash: String?
    private let pruning: JSON?
    /// With dense encodings, until each matrix is encoded.
    private let graph: Graph
    private let tokenizer: TokenizerTables?
    /// What the checkpoint says and is not followed, one sentence each.
    let warnings: [String]
    private let fixed: MemoryReservation
    private let faultInjection: AtomicFile.FaultInjection?

    init(
        checkpoint: Checkpoint, compiler: Compiler, hashesSource: Bool,
        progress: (Compiler.Progress) -> Void
    ) throws(LatheError) {
        definition = try Architectures.define(checkpoint)
        recipe = compiler.recipe
        plan = try RecipePlan(recipe, for: definition)
        graph = try Self.graph(definition, recipe, plan, source: checkpoint.path)
        _ = try ModelConfiguration(json: definition.configuration.json, source: checkpoint.configurationPath)
        var warnings = definition.warnings.map { "\(checkpoint.path): \($0)" }
        memory = try ConversionPlan(
            budget: compiler.memoryBudget, definition: definition, plan: plan, recipe: recipe,
            tokens: compiler.calibrationWindows.reduce(0) { $0 + $1.count },
            tokenizer: TokenizerCompiler.memoryByteCount(folder: checkpoint.path), threads: compiler.threads)
        let ledger = memory.makeLedger(compiler.faults)
        workspace = Workspace(threads: compiler.threads, ledger: ledger)
        faultInjection = compiler.faults.file
        fixed = try ledger.reserve(memory.fixed, .windows, for: "what is read and written at once")
        tokenizer = try TokenizerCompiler.compile(folder: checkpoint.path) { warnings.append($0) }
        self.warnings = warnings
        // What takes long comes after everything that can be refused.
        let calibrating = try ledger.reserve(
            memory.calibration.whileRunning, .windows, for: "calibrated steps (--method rtn needs none)")
        provider = try WeightPreparation(
            recipe: recipe, plan: plan, checkpoint: checkpoint, definition: definition,
            windows: compiler.calibrationWindows, threads: compiler.threads
        ).makeProvider(progress: progress)
        withExtendedLifetime(calibrating) {}
        sourceHash = hashesSource ? try SHA256.hexDigest(of: checkpoint.weights.files, ledger: ledger) : nil
        pruning = try checkpoint.pruning
    }

    /// With dense encodings. What is written must be what the reader accepts, so it is validated.
    private static func graph(
        _ definition: ModelDefinition, _ recipe: Recipe, _ plan: RecipePlan, source: String
    ) throws(LatheError) -> Graph {
        let graph = Graph(
            parameters: definition.weights.map {
                Parameter(name: $0.name, shape: $0.shape, encoding: plan.formats[$0.name]?.denseEncoding ?? .rows)
            },
            values: definition.values,
            entryPoints: definition.entryPoints.map { entry in
                var entry = entry
                if let head = entry.operations.last, case .linear(let weight, _) = head.kind,
                    plan.formats[weight]?.denseEncoding.isQuantized == true
                {
                    entry.headActivationBits = recipe.headActivationBits
                }
                return entry
            })
        try graph.validate(against: definition.configuration, source: source)
        return graph
    }

    /// What the file's header would say, matrices dense: no weight is read.
    static func outline(checkpoint: Checkpoint, recipe: Recipe) throws(LatheError) -> ModelOutline {
        let definition = try Architectures.define(checkpoint)
        let graph = try graph(definition, recipe, try RecipePlan(recipe, for: definition), source: checkpoint.path)
        let tokenizer = try TokenizerCompiler.compile(folder: checkpoint.path) { _ in }
        return ModelOutline(
            configuration: definition.configuration, graph: graph,
            tokenizerByteCount: (tokenizer?.tensors ?? []).reduce(0) { $0 + $1.bytes.count.roundedUp(to: 64) },
            source: checkpoint.path)
    }

    struct Outcome {
        /// Of a file in memory.
        let map: MappedFile?
        let byteCount: Int
        let tensors: [CompilationReport.Tensor]
        let memory: ConversionMemory
    }

    /// - Parameter dropsPageCache: a checkpoint that is read once, to be stored in another form, need not stay in memory.
    func write(
        to destination: AtomicFile.Destination, dropsPageCache: Bool, progress: (Compiler.Progress) -> Void
    ) throws(LatheError) -> Outcome {
        let writer = try LatheFileWriter(
            destination, headerByteCount: headerBound, faultInjection: faultInjection)
        let kept = try workspace.ledger.reserve(
            memory.calibration.kept, .windows, for: "what calibrated steps have made")
        defer { withExtendedLifetime((kept, fixed)) {} }
        var graph = graph
        var report: [CompilationReport.Tensor] = []
        var completed = 0
        let total = definition.weights.reduce(0) { $0 + $1.entry.tensor.byteCount }
        for (index, source) in definition.weights.enumerated() {
            progress(.init(tensor: source.name, completedBytes: completed, totalBytes: total))
            let start = writer.byteCount
            let outcome = try write(source, to: writer)
            graph.parameters[index].encoding = outcome.encoding
            completed += source.entry.tensor.byteCount
            if dropsPageCache { source.entry.file.dropPageCache(of: source.entry.tensor) }
            report.append(
                .init(
                    name: source.name, shape: source.shape, format: outcome.encoding.formatName,
                    bytesBefore: source.entry.tensor.byteCount, bytesAfter: writer.byteCount - start,
                    sparsity: Double(outcome.error.zeros) / Double(source.shape.reduce(1, *)),
                    relativeError: outcome.error.relative))
        }
        writer.declare(ModelFile.tensorDeclarations(graph: Graph(), tokenizer: tokenizer))
        for tensor in tokenizer?.tensors ?? [] { try writer.write(tensor.bytes) }
        // Before what is left takes its time: the disk.
        progress(.init(tensor: "", completedBytes: total, totalBytes: total))
        let map = try writer.finish(metadata: metadata(graph, report))
        var memory = memory.memory
        memory.windowsTaken = workspace.ledger.peak(.windows)
        return Outcome(map: map, byteCount: writer.byteCount, tensors: report, memory: memory)
    }

    private func write(
        _ source: WeightSource, to writer: LatheFileWriter
    ) throws(LatheError) -> MatrixWriter.Outcome {
        switch source.role {
        case .matrix:
            let matrix = MatrixWriter(
                writer: writer, source: source, format: plan.formats[source.name]!,
                schedule: memory.schedules[source.name]!, workspace: workspace)
            return try matrix.write(try provider?.matrix(source.name))
        case .rows:
            writer.declare(Parameter(name: source.name, shape: source.shape, encoding: .rows).declarations)
            let width = source.shape[source.shape.count - 1]
            let rows = source.shape.count == 2 ? source.shape[0] : 1
            let step = RowSlices.step(width: width)
            let provided = try provider?.rows(source.name).map { AlignedBuffer(copying: $0) }
            var error = EncodingError()
            for start in stride(from: 0, to: rows, by: step) {
                let range = start..<min(start + step, rows)
                error.zeros += try write(range, width: width, of: source, provided, to: writer)
            }
            return .init(encoding: .rows, error: error)
        }
    }

    /// - Returns: how many of the numbers are zero.
    private func write(
        _ rows: Range<Int>, width: Int, of source: WeightSource, _ provided: AlignedBuffer?, to writer: LatheFileWriter
    ) throws(LatheError) -> Int {
        let floats =
            if let provided {
                provided
            } else {
                try source.entry.file.floats(
                    of: source.entry.tensor, elements: rows.lowerBound * width..<rows.upperBound * width,
                    ledger: workspace.ledger)
            }
        let count = provided == nil ? rows.count : provided!.byteCount / (4 * width)
        precondition(count == rows.count, "what is provided is a vector, and written at once")
        let slice = MatrixSlice(
            buffer: floats, columns: count, depth: width, columnStride: width, depthStride: 1, place: source.place,
            firstColumn: rows.lowerBound)
        try slice.requireFinite()
        let padded = try workspace.buffer(
            count * width.roundedUp(to: 16) * 4, for: "the rows of \(source.place)")
        Packing.packRows(floats, rows: count, width: width, into: padded)
        try writer.writePiece(padded.view)
        return slice.zeroCount
    }

    // MARK: Header

    private func metadata(_ graph: Graph, _ report: [CompilationReport.Tensor]) -> [(String, String)] {
        ModelFile.metadata(
            configuration: definition.configuration, graph: graph,
            recipe: recipe.json(sourceHash: sourceHash, pruning: pruning, tensors: report), tokenizer: tokenizer)
    }

    /// Bytes of the longest header that the file can have: with every matrix sparse where it may be, and numbers of as many
    /// digits as numbers have.
    private var headerBound: Int {
        var graph = graph
        for index in graph.parameters.indices {
            guard let panels = graph.parameters[index].encoding.quantized,
                plan.formats[graph.parameters[index].name]?.sparse != .off
            else { continue }
            graph.parameters[index].encoding = .quantized(
                QuantizedPanels(groupSize: panels.groupSize, packedByteCount: Int(UInt32.max) / 64 * 64))
        }
        let report = graph.parameters.map {
            CompilationReport.Tensor(
                name: $0.name, shape: $0.shape, format: $0.encoding.formatName, bytesBefore: 0, bytesAfter: 0,
                sparsity: Self.longestNumber, relativeError: Self.longestNumber)
        }
        return LatheFileWriter.headerByteCount(
            metadata: metadata(graph, report),
            tensors: ModelFile.tensorDeclarations(graph: graph, tokenizer: tokenizer))
    }

    /// 17 digits, a point, and an exponent of three digits: no shortest form is longer.
    private static let longestNumber = 1.2345678901234567e-300
}
