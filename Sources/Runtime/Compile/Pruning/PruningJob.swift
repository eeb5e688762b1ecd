import LatheFormat

/// Where wanda learns how large the inputs of a product are.
protocol PruningCalibration {
    /// Tokens that are read.
    var tokenCount: Int { get }
    /// Goes through the products of `checkpoint` in the order of the forward pass and asks `decide` for each, giving the weight's name and
    /// ‖x_j‖₂ over all tokens of each of its inputs [k]. What it answers is taken away before later products see anything.
    func forEachProduct(
        of checkpoint: Checkpoint,
        _ decide: (_ weight: String, _ norms: [Float]) throws(LatheError) -> WeightMask?
    ) throws(LatheError)
}

/// One pruning: which matrices and by which rule, decided before a weight is read; then the masks.
struct PruningJob {
    /// What became of one matrix.
    struct Matrix {
        let source: WeightSource
        let mask: WeightMask
        let zerosBefore: Int
        let balanceLoss: Double?
    }

    let options: PruningOptions
    let sparsity: Double
    let definition: ModelDefinition
    /// In the order of the model.
    let targets: [WeightSource]
    let excluded: [String]

    init(_ checkpoint: Checkpoint, _ options: PruningOptions) throws(LatheError) {
        self.options = options
        sparsity = try options.resolvedSparsity()
        definition = try Architectures.define(checkpoint)
        var patterns: [TensorPattern] = []
        for text in options.excluded { patterns.append(try TensorPattern(text)) }
        var left = try definition.matrices(matching: patterns, option: "--exclude")
            .reduce(into: Set<String>()) { $0.formUnion($1) }
        if !options.includesEmbeddings {
            left.formUnion(definition.embeddingTables)
            if let head = definition.headParameter { left.insert(head) }
        }
        let matrices = definition.weights.filter { $0.role == .matrix }
        targets = matrices.filter { !left.contains($0.name) }
        excluded = matrices.map(\.name).filter { left.contains($0) }
        guard !targets.isEmpty else {
            throw LatheError(
                .invalidRequest, "Every matrix of \(quoted(checkpoint.path)) is excluded; nothing is left to prune.")
        }
        if case .group(_, let size) = options.pattern {
            for target in targets where target.shape[1] % size != 0 {
                throw LatheError(
                    .invalidRequest,
                    "The pattern \(options.pattern) needs inputs in multiples of \(size), but `\(target.name)` has "
                        + "\(target.shape[1]); exclude it, or choose a pattern that divides them.")
            }
        }
    }

    var scope: String {
        options.pattern == .unstructured ? options.resolvedScope.rawValue : "group"
    }

    /// Bytes that the masks' making reads, for progress.
    var byteCount: Int {
        targets.reduce(0) { $0 + $1.entry.tensor.byteCount } * (isGlobal ? SelectionSearch.rounds + 1 : 1)
    }

    private var isGlobal: Bool {
        options.pattern == .unstructured && options.resolvedScope == .global
    }

    // MARK: Deciding

    /// Decides about every weight. Memory: the scores of one matrix, and a bit for each weight.
    ///
    /// - Parameters:
    ///   - calibration: needed by wanda alone.
    ///   - progress: told of each matrix that is about to be read.
    func decide(
        _ checkpoint: Checkpoint, _ calibration: (any PruningCalibration)?, progress: (WeightSource) -> Void
    ) throws(LatheError) -> [Matrix] {
        var cut: SelectionCut?
        if isGlobal {
            let total = targets.reduce(0) { $0 + $1.shape[0] * $1.shape[1] }
            var search = SelectionSearch(taking: Selection.zeros(sparsity, of: total))
            while !search.isDone {
                for target in targets {
                    progress(target)
                    let scores = try WeightScores(target)
                    search.count(scores.keys.span)
                }
                search.descend()
            }
            cut = search.cut
        }
        var matrices: [String: Matrix] = [:]
        try calibration?.forEachProduct(of: checkpoint) { name, norms throws(LatheError) in
            guard let target = targets.first(where: { $0.name == name }) else { return nil }
            // The text reaches a tied embedding's product last.
            progress(target)
            if let bad = norms.first(where: { !$0.isFinite }) {
                throw LatheError(.notFinite, "The calibration text gives an input of `\(name)` the norm \(bad).")
            }
            let matrix = try prune(target, norms: norms, &cut)
            matrices[name] = matrix
            return matrix.mask
        }
        var result: [Matrix] = []
        for target in targets {
            if let matrix = matrices[target.name] {
                result.append(matrix)
            } else {
                progress(target)
                result.append(try prune(target, norms: nil, &cut))
            }
        }
        return result
    }

    private func prune(
        _ target: WeightSource, norms: [Float]?, _ cut: inout SelectionCut?
    ) throws(LatheError) -> Matrix {
        let scores = try WeightScores(target, norms: norms)
        var mask =
            switch (options.pattern, options.resolvedScope) {
            case (.group(let kept, let size), _): Selection.groups(scores, kept: kept, size: size)
            case (.unstructured, .global): Selection.mask(scores, &cut!)
            case (.unstructured, .layer): Selection.layer(scores, sparsity: sparsity)
            case (.unstructured, .row): Selection.rows(scores, sparsity: sparsity)
            }
        let loss = options.balancesPairs ? PairBalance.balance(&mask, scores) : nil
        return Matrix(source: target, mask: mask, zerosBefore: scores.zeroCount, balanceLoss: loss)
    }

    // MARK: Telling

    func report(_ matrices: [Matrix], checkpoint: Checkpoint) -> PruningReport {
        PruningReport(
            warnings: definition.warnings.map { "\(checkpoint.path): \($0)" }, sparsityAskedFor: sparsity, scope: scope,
            tensors: matrices.map {
                .init(
                    name: $0.source.name, shape: $0.source.shape, zerosBefore: $0.zerosBefore,
                    zeros: $0.mask.count - $0.mask.keptCount, balanceLoss: $0.balanceLoss)
            }, excluded: excluded)
    }

    /// What the checkpoint will say of its zeros, under `PrunedCheckpoint.metadataKey`.
    func metadata(_ report: PruningReport, calibrationTokens: Int?) -> JSON {
        var object = JSONObject([
            ("criterion", .string(options.criterion.rawValue)), ("scope", .string(scope)),
            ("pattern", .string(options.pattern.description)), ("sparsity", .number(sparsity)),
            ("achieved", .number(report.sparsity)), ("balanced_pairs", .bool(options.balancesPairs)),
        ])
        if let calibrationTokens { _ = object.append("calibration_tokens", .number(calibrationTokens)) }
        _ = object.append("excluded", .array(excluded.map { .string($0) }))
        let tensors = report.tensors.map { tensor in
            (tensor.name, ["zeros": .number(tensor.zeros), "count": .number(tensor.count)] as JSON)
        }
        _ = object.append("tensors", .object(JSONObject(tensors)))
        return .object(object)
    }
}
