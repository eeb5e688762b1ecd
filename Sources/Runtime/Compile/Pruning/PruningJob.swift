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
        /// nil where memory does not hold the masks of all matrices: then it is decided again, from what is below.
        fileprivate(set) var mask: WeightMask?
        fileprivate var reservation: MemoryReservation?
        let zeros: Int
        let zerosBefore: Int
        let balanceLoss: Double?
        fileprivate let norms: [Float]?
        /// As it was before this matrix.
        fileprivate let cut: SelectionCut?
    }

    let options: PruningOptions
    let sparsity: Double
    let definition: ModelDefinition
    /// In the order of the model.
    let targets: [WeightSource]
    let excluded: [String]
    let plan: PruningPlan
    let ledger: MemoryLedger

    /// - Parameter tokens: of the calibration text.
    init(
        _ checkpoint: Checkpoint, _ options: PruningOptions, budget: Int? = nil, tokens: Int = 0,
        faults: Compiler.Faults = .init()
    ) throws(LatheError) {
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
        plan = try PruningPlan(
            budget: budget, definition: definition, targets: targets, tokens: options.criterion == .wanda ? tokens : 0)
        ledger = plan.memory.makeLedger(faults)
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

    /// Decides about every weight. Memory: the scores of one matrix or of a slice of it, and a bit for each weight.
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
                    try slices(target, norms: nil).withEach { scores, _ in scores.withKeys { search.count($0) } }
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
            matrices[name] = kept(matrix)
            return matrix.mask
        }
        var result: [Matrix] = []
        for target in targets {
            if let matrix = matrices[target.name] {
                result.append(matrix)
            } else {
                progress(target)
                result.append(kept(try prune(target, norms: nil, &cut)))
            }
        }
        return result
    }

    /// The mask of a matrix that has been decided about, for its writing.
    func mask(of matrix: Matrix) throws(LatheError) -> (mask: WeightMask, reservation: MemoryReservation?) {
        if let mask = matrix.mask { return (mask, matrix.reservation) }
        var cut = matrix.cut
        let again = try prune(matrix.source, norms: matrix.norms, &cut)
        return (again.mask!, again.reservation)
    }

    private func kept(_ matrix: Matrix) -> Matrix {
        var matrix = matrix
        if !plan.keepsMasks { (matrix.mask, matrix.reservation) = (nil, nil) }
        return matrix
    }

    private func slices(_ target: WeightSource, norms: [Float]?) -> ScoreSlices {
        ScoreSlices(target, norms: norms, step: plan.steps[target.name]!, ledger: ledger)
    }

    private func prune(
        _ target: WeightSource, norms: [Float]?, _ cut: inout SelectionCut?
    ) throws(LatheError) -> Matrix {
        let count = target.shape[0] * target.shape[1]
        let reservation = try ledger.reserve(
            WeightMask.byteCount(count), .windows, for: "the mask of \(quoted(target.entry.tensor.name))")
        let cutBefore = cut
        let slices = slices(target, norms: norms)
        var mask = WeightMask(count: count)
        var ownCut = try layerCut(slices, count: count)
        var balance = PairBalance()
        var zerosBefore = 0
        try slices.withEach { scores, first in
            zerosBefore += scores.zeroCount
            switch (options.pattern, options.resolvedScope) {
            case (.group(let kept, let size), _): Selection.groups(scores, kept: kept, size: size, at: first, &mask)
            case (.unstructured, .global): Selection.apply(&cut!, scores, at: first, &mask)
            case (.unstructured, .layer): Selection.apply(&ownCut!, scores, at: first, &mask)
            case (.unstructured, .row): Selection.rows(scores, sparsity: sparsity, at: first, &mask)
            }
            if options.balancesPairs { balance.balance(&mask, scores, at: first) }
        }
        return Matrix(
            source: target, mask: mask, reservation: reservation, zeros: count - mask.keptCount,
            zerosBefore: zerosBefore, balanceLoss: options.balancesPairs ? balance.loss : nil, norms: norms,
            cut: cutBefore)
    }

    /// Where each matrix has a cut of its own.
    private func layerCut(_ slices: ScoreSlices, count: Int) throws(LatheError) -> SelectionCut? {
        guard options.pattern == .unstructured, options.resolvedScope == .layer else { return nil }
        var search = SelectionSearch(taking: Selection.zeros(sparsity, of: count))
        while !search.isDone {
            try slices.withEach { scores, _ in scores.withKeys { search.count($0) } }
            search.descend()
        }
        return search.cut
    }

    // MARK: Telling

    func report(_ matrices: [Matrix], checkpoint: Checkpoint) -> PruningReport {
        PruningReport(
            warnings: definition.warnings.map { "\(checkpoint.path): \($0)" }, sparsityAskedFor: sparsity, scope: scope,
            tensors: matrices.map {
                .init(
                    name: $0.source.name, shape: $0.source.shape, zerosBefore: $0.zerosBefore, zeros: $0.zeros,
                    balanceLoss: $0.balanceLoss)
            }, excluded: excluded, memory: plan.memory)
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
