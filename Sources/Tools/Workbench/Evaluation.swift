public import Lathe
import LatheFormat

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// How well a model predicts a text.
public struct EvaluationResult: Sendable {
    /// exp(Σ nll / N) over the N counted tokens; nll = −log p(token | those before it in its window).
    public let perplexity: Double
    /// Of the perplexity, by the delta method: perplexity · s / √N, where s² = Σ (nll − mean)² / (N − 1).
    ///
    /// It takes the tokens for independent. They are not: neighbours in a text are hard or easy together, so the true
    /// error, of this text as a sample of its kind, is larger. Two models on the same text differ far more reliably than
    /// their errors suggest, since their nll go up and down together. 0 for a single counted token.
    public let standardError: Double
    /// N.
    public let tokens: Int
    /// Σ nll / ln 2, divided by the bytes of the text that the counted tokens cover: comparable between models with
    /// different tokenizers.
    public let bitsPerByte: Double
    public let window: Int
    public let stride: Int
    public let comparison: EvaluationComparison?
}

/// How far a model's distributions are from the reference's, over the same counted tokens.
public struct EvaluationComparison: Sendable {
    /// The reference's own.
    public let perplexity: Double
    /// Mean of KL(reference ‖ model) in nats.
    public let meanDivergence: Double
    /// The fraction of positions where both think the same token the likeliest.
    public let top1Agreement: Double
    /// Root mean square of p_reference(token) − p_model(token), for the token that the text has.
    public let rmsProbabilityDifference: Double
    /// Of log(perplexity / the reference's): the standard error of the mean of the tokens' differences in −log p. Much
    /// smaller than the error of either perplexity, since what is hard for one is hard for the other.
    public let increaseError: Double
    /// Where the divergence is greatest: the token predicted, counted from the text's start, and the divergence there.
    public let worstToken: Int
    public let worstDivergence: Double
}

extension EvaluationComparison {
    /// - Parameter tokens: where in the text each of `divergences` stands.
    init(_ divergences: [Divergence], tokens: [Int]) {
        let count = Double(divergences.count)
        func mean(_ value: (Divergence) -> Double) -> Double { divergences.reduce(0) { $0 + value($1) } / count }
        let means = (
            loss: mean(\.referenceLoss), divergence: mean(\.nats),
            square: mean {
                ($0.referenceProbability - $0.modelProbability) * ($0.referenceProbability - $0.modelProbability)
            }
        )
        // The first of equals.
        let worst = divergences.indices.max {
            divergences[$0].nats < divergences[$1].nats || divergences[$0].nats == divergences[$1].nats && $0 > $1
        }!
        let increase = mean { $0.modelLoss - $0.referenceLoss }
        let squares = mean { value in
            let difference = value.modelLoss - value.referenceLoss - increase
            return difference * difference
        }
        increaseError = divergences.count > 1 ? (squares / (count - 1)).squareRoot() : 0
        perplexity = exp(means.loss)
        meanDivergence = means.divergence
        top1Agreement = Double(divergences.count { $0.agrees }) / count
        rmsProbabilityDifference = means.square.squareRoot()
        worstToken = tokens[worst]
        worstDivergence = divergences[worst].nats
    }
}

/// Measures a model on a text, many windows in flight in one engine.
public struct Evaluation: Sendable {
    public var windows: EvaluationWindows
    /// Threads, KV cache type, prefill chunk; the rest is set here.
    public var options: EngineOptions

    public init(windows: EvaluationWindows, options: EngineOptions = EngineOptions()) {
        self.windows = windows
        self.options = options
    }

    /// - Parameters:
    ///   - reference: what to compare with; nil: nothing.
    ///   - progress: called with the fraction done, now and then.
    /// - Throws: `notFinite` where a logit is not finite; `invalidRequest` where model and reference do not match.
    public func measure(
        _ model: Model, on text: EvaluationText, against reference: EvaluationReference? = nil,
        progress: (Double) -> Void = { _ in }
    ) async throws -> EvaluationResult {
        try reference?.check(model, text, windows)
        let engine = try makeEngine(model)
        let all = windows.windows(ofTokens: text.tokens.count)
        var losses: [[Double]] = []
        var comparison: EvaluationComparison?
        if let reference {
            var divergences: [Divergence] = []
            var rest = all[...]
            while !rest.isEmpty {
                let part = rest.prefix(reference.passCount(rest))
                rest = rest.dropFirst(part.count)
                func report(_ fraction: Double) {
                    progress((Double(part.startIndex) + fraction * Double(part.count)) / Double(all.count))
                }
                // Reference and engine take about the same time.
                let hidden = try reference.hidden(part, of: text) { report($0 / 2) }
                for (index, window) in part.enumerated() {
                    let tokens = Array(text.tokens[window.countedTokens])
                    let logits = try RecordedLogits(
                        firstRow: window.firstCounted - 1, rows: tokens.count,
                        vocabularySize: model.configuration.vocabularySize)
                    losses += try await score([window][...], of: text, by: engine, onLogits: logits.receive)
                    divergences += try await reference.compare(hidden[index], logits, tokens: tokens)
                    report(0.5 + 0.5 * Double(index + 1) / Double(part.count))
                }
            }
            comparison = EvaluationComparison(divergences, tokens: all.flatMap { $0.countedTokens })
        } else {
            losses = try await score(all[...], of: text, by: engine, progress: progress)
        }
        return try result(
            losses.flatMap { $0 }, coveredBytes: try text.byteCount(of: all.map(\.countedTokens)),
            comparison: comparison)
    }

    /// −log p of each window's counted tokens.
    private func score(
        _ windows: ArraySlice<EvaluationWindow>, of text: EvaluationText, by engine: Engine,
        onLogits: (@Sendable (Int, Span<Float>) -> Void)? = nil, progress: (Double) -> Void = { _ in }
    ) async throws -> [[Double]] {
        var losses: [[Double]] = Array(repeating: [], count: windows.count)
        var done = 0
        try await withThrowingTaskGroup(of: (Int, [Double]).self) { group in
            func start(_ index: Int) {
                let window = windows[windows.startIndex + index]
                let tokens = Array(text.tokens[window.tokens])
                group.addTask {
                    let scores = try await engine.makeSession().score(
                        tokens, .from(window.firstCounted), onLogits: onLogits)
                    return (index, try Self.losses(scores, of: window))
                }
            }
            // As many windows as the engine takes; each that ends makes room for the next.
            var next = min(engine.plan.sessions, windows.count)
            for index in 0..<next { start(index) }
            while let (index, values) = try await group.next() {
                losses[index] = values
                done += 1
                progress(Double(done) / Double(windows.count))
                if next < windows.count {
                    start(next)
                    next += 1
                }
            }
        }
        return losses
    }

    /// Enough windows that a whole chunk is always there to be fed, however short they are.
    private var sessionCount: Int { min(16, options.prefillChunk / windows.length + 2) }
    /// Rows of the head at once: enough to be a matrix product, few enough to be small.
    private static let logitRows = 64

    /// What the evaluation asks of an engine: as many windows at once as are of use and as the memory budget holds.
    package func engineOptions(for outline: ModelOutline) throws(LatheError) -> EngineOptions {
        var options = options
        options.contextLength = windows.length
        options.maximumSessions = sessionCount
        options.maximumLogitRows = Self.logitRows
        let plan = try MemoryPlan(outline: outline, options: options)
        if !plan.fits, let fitting = plan.maximumSessions {
            options.maximumSessions = max(1, min(sessionCount, fitting))
            options.maximumLogitRows = nil
        }
        return options
    }

    func makeEngine(_ model: Model) throws(LatheError) -> Engine {
        try Engine(model: model, options: try engineOptions(for: model.file.outline))
    }

    /// −log p of the counted tokens.
    static func losses(_ scores: [TokenScore], of window: EvaluationWindow) throws(LatheError) -> [Double] {
        var losses: [Double] = []
        losses.reserveCapacity(window.countedTokens.count)
        for (offset, score) in scores.enumerated() {
            guard let value = score.logProbability else { continue }
            guard value.isFinite else {
                throw LatheError(
                    .notFinite,
                    "The log-probability of token \(window.tokens.lowerBound + offset) of the text is not finite.")
            }
            losses.append(-Double(value))
        }
        precondition(losses.count == window.countedTokens.count)
        return losses
    }

    /// - Parameter losses: of every counted token, in the order of the text.
    func result(
        _ losses: [Double], coveredBytes: Int, comparison: EvaluationComparison?
    ) throws(LatheError) -> EvaluationResult {
        let count = Double(losses.count)
        let mean = losses.reduce(0, +) / count
        let squares = losses.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
        let deviation = losses.count > 1 ? (squares / (count - 1)).squareRoot() : 0
        let perplexity = exp(mean)
        guard perplexity.isFinite else {
            throw LatheError(
                .notFinite,
                "The mean negative log-probability is \(mean): its exponential, the perplexity, is not finite.")
        }
        return EvaluationResult(
            perplexity: perplexity, standardError: perplexity * deviation / count.squareRoot(), tokens: losses.count,
            bitsPerByte: mean * count / log(2) / Double(max(1, coveredBytes)),
            window: windows.length, stride: windows.stride, comparison: comparison)
    }
}
