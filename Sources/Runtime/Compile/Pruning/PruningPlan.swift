import LatheFormat

/// How matrices are cut so that pruning keeps to its budget. It never changes what is written.
struct PruningPlan {
    let memory: ConversionMemory
    /// Outputs that are scored at once, by the names of the matrices; multiples of 16.
    let steps: [String: Int]
    /// Whether masks wait until they are written. Else they are made a second time.
    let keepsMasks: Bool
    /// Taken for the whole pruning.
    let fixed: Int
    /// Taken while a calibration text runs.
    let whileCalibrating: Int

    init(
        budget: Int?, definition: ModelDefinition, targets: [WeightSource], tokens: Int
    ) throws(LatheError) {
        let runtime = ConversionPlan.runtimeByteCount(threads: 1)
        let fixed = ConversionPlan.fixedByteCount(tensors: definition.weights.count)
        let widest = targets.map { max($0.shape[0], $0.shape[1]) }.max() ?? 0
        let largest = definition.weights.map { $0.shape.reduce(1, *) }.max() ?? 0
        // Values of one layer for all tokens; a weight, its copy without zeros and its transpose; OpenBLAS and its buffers.
        whileCalibrating = tokens == 0 ? 0 : 16 * tokens * widest + 12 * largest + 64_000_000
        let room = (budget ?? ConversionPlan.defaultByteCount) - runtime - fixed - whileCalibrating
        let allMasks = targets.reduce(0) { $0 + Self.maskByteCount($1) }

        // With all masks in memory where the largest slices have room beside them; else with one.
        func deciding(_ source: WeightSource, _ step: Int) -> Int { WeightScores.byteCount(source, outputs: step) }
        func steps(room: Int) -> [String: Int] {
            var steps: [String: Int] = [:]
            for source in targets {
                var step = source.shape[0].roundedUp(to: 16)
                while step > 16, deciding(source, step) > room { step = max(16, (step / 2).roundedUp(to: 16)) }
                steps[source.name] = step
            }
            return steps
        }
        func peak(_ steps: [String: Int], keepsMasks: Bool) -> Int {
            let piece = PrunedCheckpoint.pieceByteCount
            let scores = targets.map { deciding($0, steps[$0.name]!) }
            if keepsMasks { return allMasks + max(scores.max() ?? 0, piece) }
            return zip(scores, targets.map(Self.maskByteCount)).map { max($0, piece) + $1 }.max() ?? 0
        }
        var chosen = steps(room: room - allMasks)
        var keepsMasks = true
        if peak(chosen, keepsMasks: true) > room {
            let mask = targets.map(Self.maskByteCount).max() ?? 0
            (chosen, keepsMasks) = (steps(room: room - mask), false)
        }
        self.steps = chosen
        self.keepsMasks = keepsMasks
        self.fixed = fixed
        memory = ConversionMemory(
            budget: budget, runtime: runtime, tokenizer: 0,
            windows: fixed + whileCalibrating + peak(chosen, keepsMasks: keepsMasks))
        if let budget, memory.planned > budget {
            var ways = ["a budget of \(memory.planned) bytes"]
            if tokens > 0 { ways.append("--criterion magnitude, or fewer --calibration-tokens") }
            throw LatheError(
                .budget,
                """
                This pruning would take \(memory.planned) bytes, \(memory.planned - budget) more than the budget of \
                \(budget): the program \(runtime), the calibration text \(whileCalibrating), scores and masks in their \
                smallest slices \(peak(chosen, keepsMasks: false)), the rest is windows on files. What would help: \
                \(ways.joined(separator: "; ")).
                """)
        }
    }

    private static func maskByteCount(_ source: WeightSource) -> Int {
        WeightMask.byteCount(source.shape[0] * source.shape[1])
    }
}

/// The scores of a matrix, some outputs at a time, as often as they are wanted. Kept where they are one slice.
final class ScoreSlices {
    private let source: WeightSource
    private let norms: [Float]?
    private let step: Int
    private let ledger: MemoryLedger
    private var only: WeightScores?

    init(_ source: WeightSource, norms: [Float]?, step: Int, ledger: MemoryLedger) {
        (self.source, self.norms, self.step, self.ledger) = (source, norms, step, ledger)
    }

    /// - Parameter body: is given the scores, and the weight of the matrix that they begin with.
    func withEach(_ body: (WeightScores, _ first: Int) -> Void) throws(LatheError) {
        if let only { return body(only, 0) }
        for start in stride(from: 0, to: source.shape[0], by: step) {
            let end = min(start + step, source.shape[0])
            let scores = try WeightScores(source, outputs: start..<end, norms: norms, ledger: ledger)
            if end - start == source.shape[0] { only = scores }
            body(scores, start * source.shape[1])
        }
    }
}
