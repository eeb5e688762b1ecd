import LatheFormat

/// One conversion: what will be written, decided before the first weight is read.
struct CompilationJob {
    private let definition: ModelDefinition
    private let format: any WeightFormat.Type
    private let threads: Int
    private let graph: Graph
    private let tokenizer: TokenizerTables?
    private let metadata: [(String, String)]
    /// What the checkpoint says and is not followed, one sentence each.
    let warnings: [String]

    init(
        checkpoint: Checkpoint, format: WeightFormats, threads: Int, sourceHash: String?
    ) throws(LatheError) {
        definition = try Architectures.define(checkpoint)
        self.format = format.format
        self.threads = threads
        let encoding = format.format.encoding
        graph = Graph(
            parameters: definition.weights.map {
                Parameter(name: $0.name, shape: $0.shape, encoding: $0.role == .matrix ? encoding : .rows)
            },
            values: definition.values, entryPoints: definition.entryPoints)
        // What is written must be what the reader accepts.
        try graph.validate(against: definition.configuration, source: checkpoint.path)
        _ = try ModelConfiguration(json: definition.configuration.json, source: checkpoint.configurationPath)
        var warnings = definition.warnings.map { "\(checkpoint.path): \($0)" }
        tokenizer = try TokenizerCompiler.compile(folder: checkpoint.path) { warnings.append($0) }
        self.warnings = warnings
        var recipe: [(String, JSON)] = [("weights", .string(format.description))]
        if let sourceHash { recipe.append(("source_sha256", .string(sourceHash))) }
        metadata = ModelFile.metadata(
            configuration: definition.configuration, graph: graph, recipe: .object(JSONObject(recipe)),
            tokenizer: tokenizer)
    }

    func makeWriter(to destination: AtomicFile.Destination) throws(LatheError) -> LatheFileWriter {
        try LatheFileWriter(
            destination, metadata: metadata,
            tensors: ModelFile.tensorDeclarations(graph: graph, tokenizer: tokenizer))
    }

    /// - Parameter dropsPageCache: a checkpoint that is read once, to be stored in another form, need not stay in memory.
    func write(
        to writer: LatheFileWriter, dropsPageCache: Bool, progress: (Compiler.Progress) -> Void
    ) throws(LatheError) -> [CompilationReport.Tensor] {
        var report: [CompilationReport.Tensor] = []
        var completed = 0
        let total = writer.byteCount
        for (source, parameter) in zip(definition.weights, graph.parameters) {
            progress(.init(tensor: source.name, completedBytes: completed, totalBytes: total))
            var written = 0
            var error = EncodingError()
            func write(_ bytes: ByteView) throws(LatheError) {
                try writer.writePiece(bytes)
                written += bytes.count
            }
            switch source.role {
            case .rows: try write(try Packing.packRows(source).view)
            case .matrix: error = try format.encode(MatrixReader(source: source), threads: threads, write: write)
            }
            completed += written
            if dropsPageCache { source.entry.file.dropPageCache(of: source.entry.tensor) }
            report.append(
                .init(
                    name: source.name, shape: source.shape, format: parameter.encoding == .rows ? "f32" : format.name,
                    bytesBefore: source.entry.tensor.byteCount, bytesAfter: written, relativeError: error.relative))
        }
        for tensor in tokenizer?.tensors ?? [] {
            try writer.write(tensor.bytes)
            completed += tensor.bytes.count
        }
        progress(.init(tensor: "", completedBytes: total, totalBytes: total))
        return report
    }
}
