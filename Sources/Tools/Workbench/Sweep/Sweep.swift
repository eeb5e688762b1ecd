import LatheCompiler
import LatheFormat

/// Measures many recipes of one checkpoint. Each result is a file in the output folder, so that a sweep which was stopped
/// goes on where it was.
public struct Sweep: Sendable {
    public var checkpoint: String
    /// The text on which quality is measured: never one for calibration or training.
    public var text: String
    public var recipes: [SweepRecipe]
    /// The folder of results.
    public var output: String
    public var calibration: String?
    /// Of the text; nil: all.
    public var maximumTokens: Int?
    /// For which speed is measured; conversion and evaluation take the last.
    public var threads: [Int]
    /// Runs of a benchmark that count.
    public var runs = 5

    public init(
        checkpoint: String, text: String, recipes: [SweepRecipe], output: String, calibration: String?, threads: [Int]
    ) {
        self.checkpoint = checkpoint
        self.text = text
        self.recipes = recipes
        self.output = output
        self.calibration = calibration
        self.threads = threads
    }

    /// What a sweep came to.
    public struct Outcome: Sendable {
        package var results: [SweepResult] = []
        /// Recipes that could not be made or measured, and why.
        public var failures: [(name: String, reason: String)] = []
        /// How many results stood there already.
        public var reusedCount = 0
        package var referencePerplexity: Double? { results.first?.quality.referencePerplexity }
    }

    /// What is being done, for a progress bar.
    public struct Progress: Sendable {
        /// From 0.
        public let recipe: Int
        public let recipeCount: Int
        public let name: String
        public let step: String
        /// Of the step.
        public let fraction: Double
    }

    /// Measures what has not been measured yet, recipe by recipe, in their order; tables and plots are written anew after
    /// each.
    ///
    /// - Throws: what concerns all recipes: checkpoint, text, output folder. What concerns one is in `failures`.
    public func run(
        lathe: @escaping LatheProcess, progress: (Progress) -> Void = { _ in }
    ) async throws -> Outcome {
        guard calibration != nil || !recipes.contains(where: \.needsCalibration) else {
            let name = recipes.first(where: \.needsCalibration)!.name
            throw LatheError(
                .invalidRequest, "The recipe \(quoted(name)) looks at a text: add --calibration TEXT.")
        }
        try Files.createDirectory("\(output)/results")
        try Files.createDirectory("\(output)/quality")
        let workshop = try RecipeWorkshop(
            checkpoint: checkpoint, text: text, maximumTokens: maximumTokens, calibration: calibration,
            threads: threads.last, folder: "\(output)/.work", runLathe: lathe)
        let inputs = try workshop.inputsHash()
        var outcome = Outcome()
        for (index, recipe) in recipes.enumerated() {
            func report(_ step: String, _ fraction: Double) {
                progress(
                    Progress(
                        recipe: index, recipeCount: recipes.count, name: recipe.name, step: step, fraction: fraction))
            }
            do {
                let path = "\(output)/results/\(key(recipe, inputs, storage: true)).json"
                if let json = stored(path), let result = try? SweepResult(json: json, source: path) {
                    outcome.results.append(result)
                    outcome.reusedCount += 1
                    continue
                }
                let result = try await measure(recipe, inputs, workshop, report)
                try Files.write(result.json.serialized() + "\n", to: path)
                outcome.results.append(result)
            } catch let error as LatheError {
                outcome.failures.append((recipe.name, error.message))
            }
            try write(outcome)
        }
        try write(outcome)
        return outcome
    }

    private func measure(
        _ recipe: SweepRecipe, _ inputs: String, _ workshop: RecipeWorkshop,
        _ report: (String, Double) -> Void
    ) async throws -> SweepResult {
        report("converting", 0)
        let product = try workshop.make(recipe) {
            report("converting", Double($0.completedBytes) / Double(max(1, $0.totalBytes)))
        }
        report("measuring speed", 0)
        let speed = try workshop.speed(
            of: product,
            shape: ["--threads", threads.map(String.init).joined(separator: ","), "--runs", "\(runs)"])
        // Stored sparse or dense, the weights are the same: one evaluation serves both.
        let path = "\(output)/quality/\(key(recipe, inputs, storage: false)).json"
        let quality: QualityFigures
        if let json = stored(path), let figures = try? QualityFigures(json: json, source: path) {
            quality = figures
        } else {
            quality = try await workshop.quality(of: product) { report("evaluating", $0) }
            try Files.write(quality.json.serialized() + "\n", to: path)
        }
        return SweepResult(
            name: recipe.name, recipe: recipe.json(), fileBytes: product.fileBytes, sparsity: product.sparsity,
            speed: speed, quality: quality)
    }

    /// What a result depends on, as sixteen digits: a changed checkpoint, text or recipe has another result.
    private func key(_ recipe: SweepRecipe, _ inputs: String, storage: Bool) -> String {
        var members: [(String, JSON)] = [
            ("version", 1), ("inputs", .string(inputs)), ("recipe", recipe.json(storage: storage)),
            ("tokens", maximumTokens.map { JSON.number($0) } ?? .null),
        ]
        if storage {
            members += [("threads", .array(threads.map { JSON.number($0) })), ("runs", .number(runs))]
        }
        return hexadecimal(
            XXH64.digest(of: ByteView(copying: JSON.object(JSONObject(members)).serializedBytes())))
    }

    /// nil where there is none, or one that nobody can read: it is then measured again.
    private func stored(_ path: String) -> JSONObject? {
        guard Files.isRegular(path) else { return nil }
        return try? JSON.parse(path: path).object(at: path)
    }

    private func write(_ outcome: Outcome) throws(LatheError) {
        let tables = SweepTables(outcome.results, failures: outcome.failures)
        try Files.write(tables.markdown, to: "\(output)/table.md")
        try Files.write(tables.csv, to: "\(output)/table.csv")
        try Files.write(tables.json.serialized() + "\n", to: "\(output)/table.json")
        if !outcome.results.isEmpty {
            try Files.write(ParetoPlot(outcome.results).svg, to: "\(output)/pareto.svg")
        }
    }
}
