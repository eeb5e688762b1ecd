import LatheCompiler
package import LatheFormat

/// Finds the fastest recipe whose model fits a memory budget and loses no more quality than allowed, and writes its file.
///
/// Candidates go in the order of the bytes that a token reads, which is the order of expected speed, and each is measured
/// by itself: the file's size, then memory and speed in a process of its own at the asked context and sessions, then
/// quality against the float32 checkpoint. A candidate is timed in turns with the best so far, and the fastest run of each
/// counts: whatever else a machine does can only slow a run down. A candidate that the highest bandwidth seen keeps below the
/// best so far is not measured, and as the order is by bytes, nor is any after it.
public struct Fit: Sendable {
    public var checkpoint: String
    /// Never one for calibration or training.
    public var text: String
    public var output: String
    public var candidates: [SweepRecipe]
    public var calibration: String?
    public var memoryBudget: Int
    /// Tokens that each session holds; nil: the model's context.
    public var contextLength: Int?
    public var sessions = 1
    /// The fraction by which the perplexity may exceed the float32 checkpoint's. The upper end of the increase counts: two
    /// standard errors of the difference above the measured one, so that it should hold on another text of the kind too.
    public var maximumIncrease: Double
    public var maximumTokens: Int?
    public var threads: Int

    public init(
        checkpoint: String, text: String, output: String, candidates: [SweepRecipe], calibration: String?,
        memoryBudget: Int, maximumIncrease: Double, threads: Int
    ) {
        self.checkpoint = checkpoint
        self.text = text
        self.output = output
        self.candidates = candidates
        self.calibration = calibration
        self.memoryBudget = memoryBudget
        self.maximumIncrease = maximumIncrease
        self.threads = threads
    }

    /// What became of a candidate.
    public struct Verdict: Sendable {
        public enum Kind: String, Sendable {
            case chosen, slower
            case tooLarge = "too_large"
            case tooLossy = "too_lossy"
            case failed
            case notMeasured = "not_measured"
        }
        public let name: String
        package let recipe: JSON
        public internal(set) var kind = Kind.notMeasured
        /// One sentence.
        public internal(set) var reason = ""
        /// What was measured before it was out.
        package internal(set) var fileBytes: Int?
        package internal(set) var speed: SpeedFigures?
        package internal(set) var quality: QualityFigures?

        /// Decode tokens/s of the fastest run so far.
        package internal(set) var fastest = 0.0
    }

    /// Threads and caches let a token be read a little faster than the probe reads: so much is allowed for before a
    /// candidate is left out unmeasured.
    private static let roofMargin = 1.1
    /// How often candidate and best are timed in turns.
    private static let rounds = 2
    /// A candidate that is less than 2 % faster is not told from noise: the one that reads fewer bytes stays.
    private static let distinct = 1.02

    /// - Returns: a verdict for each candidate, in the order in which they were looked at; one is `chosen`, or none fits and
    ///   nothing has been written.
    public func run(
        lathe: @escaping LatheProcess, progress: (Sweep.Progress) -> Void = { _ in }
    ) async throws -> [Verdict] {
        guard sessions >= 1 else {
            throw LatheError(.invalidRequest, "\(sessions) sessions were asked for; at least 1 is needed.")
        }
        let source = try Checkpoint(path: checkpoint, access: .read)
        try checkOutput(output, isNoneOf: source.inputPaths + [text] + (calibration.map { [$0] } ?? []))
        let shape = try benchmarkShape(modelContext: try source.modelConfiguration().contextLength)
        let folder = output + ".fitting"
        let workshop = try RecipeWorkshop(
            checkpoint: checkpoint, text: text, maximumTokens: maximumTokens, calibration: calibration,
            threads: threads, folder: folder, runLathe: lathe)
        let layers = try workshop.linearLayers()
        let ordered = candidates.map { ($0, Self.expectedBytes($0, layers)) }.sorted { $0.1 < $1.1 }
        var verdicts = ordered.map { Verdict(name: $0.0.name, recipe: $0.0.json()) }
        var best: Int?
        var bandwidth = 0.0
        for (index, (recipe, bytes)) in ordered.enumerated() {
            // A step reads the weights once for all sessions.
            let roof = Self.roofMargin * bandwidth * Double(sessions) / bytes
            if let best, verdicts[best].fastest >= roof {
                verdicts[index].reason =
                    "A token reads about \(Bytes.text(Int(bytes))): it cannot be faster than \(verdicts[best].name)."
                continue
            }
            func report(_ step: String, _ fraction: Double) {
                progress(
                    .init(
                        recipe: index, recipeCount: ordered.count, name: recipe.name, step: step, fraction: fraction))
            }
            do {
                var champion = best.map { verdicts[$0] }
                try await judge(&verdicts[index], recipe, workshop, shape, &champion, report)
                if let best, let champion { verdicts[best] = champion }
            } catch let error as LatheError {
                verdicts[index].kind = .failed
                verdicts[index].reason = error.message
            }
            bandwidth = max(bandwidth, verdicts[index].speed?.decode.last?.probeBytesPerSecond ?? 0)
            guard verdicts[index].kind == .chosen else { continue }
            if let best {
                verdicts[best].kind = .slower
                verdicts[best].reason = "It fits, and \(recipe.name) is faster."
            }
            best = index
            try workshop.keepAsBest()
        }
        if best != nil { try write(workshop.best.path) }
        return verdicts
    }

    /// Measures until it is out, or chooses it.
    private func judge(
        _ verdict: inout Verdict, _ recipe: SweepRecipe, _ workshop: RecipeWorkshop, _ shape: [String],
        _ champion: inout Verdict?, _ report: (String, Double) -> Void
    ) async throws {
        report("converting", 0)
        let product = try workshop.make(recipe) {
            report("converting", Double($0.completedBytes) / Double(max(1, $0.totalBytes)))
        }
        verdict.fileBytes = product.fileBytes
        guard product.fileBytes <= memoryBudget else {
            verdict.kind = .tooLarge
            verdict.reason =
                "The file alone has \(Bytes.text(product.fileBytes)), \(Bytes.text(product.fileBytes - memoryBudget)) too much."
            return
        }
        report("measuring memory and speed", 0)
        let speed = try workshop.speed(of: product, shape: shape)
        verdict.speed = speed
        verdict.fastest = speed.decode.last?.fastest ?? 0
        guard speed.peakResidentBytes <= memoryBudget else {
            verdict.kind = .tooLarge
            verdict.reason =
                "It takes \(Bytes.text(speed.peakResidentBytes)) of memory, "
                + "\(Bytes.text(speed.peakResidentBytes - memoryBudget)) too much."
            return
        }
        if let name = champion?.name {
            for round in 1...Self.rounds {
                report("timing it in turns with \(name)", Double(round) / Double(Self.rounds))
                let other = try workshop.speed(of: workshop.best, shape: shape).decode.last?.fastest ?? 0
                let own = try workshop.speed(of: product, shape: shape).decode.last?.fastest ?? 0
                champion!.fastest = max(champion!.fastest, other)
                verdict.fastest = max(verdict.fastest, own)
            }
            let ratio = verdict.fastest / champion!.fastest
            guard ratio > Self.distinct else {
                verdict.kind = .slower
                let change = "\(((ratio - 1).magnitude * 100).rounded(to: 1)) %"
                verdict.reason =
                    "It is \(ratio < 1 ? "\(change) slower than" : "no faster than") \(name); its quality was not measured."
                return
            }
        }
        let quality = try await workshop.quality(of: product) { report("evaluating", $0) }
        verdict.quality = quality
        let upper = (1 + quality.increase) * (1 + 2 * quality.increaseError) - 1
        guard upper <= maximumIncrease else {
            verdict.kind = .tooLossy
            verdict.reason =
                """
                Its perplexity is \(Self.percent(quality.increase)) above the checkpoint's, with two standard errors \
                \(Self.percent(upper)); \(Self.percent(maximumIncrease)) are allowed.
                """
            return
        }
        verdict.kind = .chosen
        verdict.reason = "The fastest that fits: perplexity \(Self.percent(quality.increase)) above the checkpoint's."
    }

    private static func percent(_ fraction: Double) -> String { "\((fraction * 100).rounded(to: 2)) %" }

    /// The whole context is in use at the end: a prompt, and new tokens for timing.
    private func benchmarkShape(modelContext: Int) throws(LatheError) -> [String] {
        let context = contextLength ?? modelContext
        guard (3...max(3, modelContext)).contains(context), modelContext >= 3 else {
            throw LatheError(
                .invalidRequest,
                "A context of \(context) tokens was asked for; the model's takes 3 to \(modelContext).")
        }
        let new = max(2, min(64, context / 4))
        return [
            "--prompt-tokens", "\(context - new)", "--new-tokens", "\(new)", "--batch", "\(sessions)", "--threads",
            "\(threads)", "--runs", "3",
        ]
    }

    /// Bytes of weights that a token reads, before anything is converted: for the order of candidates alone.
    static func expectedBytes(_ recipe: SweepRecipe, _ layers: [Reference.LinearWeight]) -> Double {
        let kept: Double
        if let pruning = recipe.pruning {
            if case .group(let some, let all) = pruning.pattern {
                kept = Double(some) / Double(all)
            } else {
                kept = 1 - (pruning.sparsity ?? 0)
            }
        } else {
            kept = 1
        }
        let isSparse = recipe.recipe.sparse != .off && kept < 1
        return layers.reduce(0) { sum, layer in
            let count = Double(layer.shape.reduce(1, *))
            let bits: Double
            switch recipe.recipe.weights {
            case .float32: bits = 32
            // The head stays int8 and dense.
            case _ where layer.isHead: bits = 8
            case .int8: bits = isSparse ? min(8, 8 * kept + 1) : 8
            default:
                let multipliers = 8 / Double(recipe.recipe.groupSize)
                bits = multipliers + (isSparse ? min(4, 4 * kept + 1) : 4)
            }
            return sum + count * bits / 8
        }
    }

    /// Puts the chosen file in its place.
    private func write(_ path: String) throws(LatheError) {
        let input = try InputFile.open(path: path)
        let file = try AtomicFile(.path(output))
        let window = 8 << 20
        for offset in stride(from: 0, to: input.byteCount, by: window) {
            try file.append(try input.read(offset: offset, count: min(window, input.byteCount - offset)).view)
        }
        try file.finish()
    }
}

extension Fit.Verdict {
    package var json: JSON {
        .object(
            JSONObject([
                ("name", .string(name)), ("recipe", recipe), ("verdict", .string(kind.rawValue)),
                ("reason", .string(reason)), ("file_bytes", fileBytes.map { JSON.number($0) } ?? .null),
                ("peak_resident_bytes", speed.map { JSON.number($0.peakResidentBytes) } ?? .null),
                ("speed", speed?.json ?? .null), ("quality", quality?.json ?? .null),
            ]))
    }
}
