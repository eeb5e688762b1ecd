import LatheFormat

/// What a conversion takes of memory, in bytes: planned before it starts, kept while it runs.
public struct ConversionMemory: Sendable {
    /// What was asked for; nil: nothing, and slices are chosen for `ConversionPlan.defaultByteCount`.
    public let budget: Int?
    /// The whole process at its peak: `runtime`, `tokenizer` and `windows`.
    public var planned: Int { runtime + tokenizer + windows }
    /// What the program takes by itself, by a stated bound.
    public let runtime: Int
    /// While the tokenizer's tables are made.
    public let tokenizer: Int
    /// Weights on their way: read, encoded, and in the kernel's cache.
    public let windows: Int
    /// The most that was taken of `windows`.
    public internal(set) var windowsTaken = 0

    /// An account that holds the windows, and no more if there is a budget.
    func makeLedger(_ faults: Compiler.Faults) -> MemoryLedger {
        let ledger = MemoryLedger(limits: budget == nil ? [:] : [.windows: windows], failing: faults.allocation)
        faults.ledger?(ledger)
        return ledger
    }
}

/// How matrices are cut so that a conversion keeps to its budget. It never changes what is written.
struct ConversionPlan {
    let memory: ConversionMemory
    let threads: Int
    /// By the names of the parameters that are matrices.
    let schedules: [String: MatrixSchedule]
    /// Taken for the whole conversion.
    let fixed: Int
    /// Taken while calibrated steps run, and of what they made while it is written.
    let calibration: CalibrationMemory

    /// Slices are chosen for so much memory where no budget is set; what cannot be cut may take more then.
    static let defaultByteCount = 256_000_000

    /// A `lathe` that converts, without its windows: measured at 17.5 MB, with room for what the allocator keeps.
    static func runtimeByteCount(threads: Int) -> Int { 24_000_000 + 1_000_000 * threads }

    init(
        budget: Int?, definition: ModelDefinition, plan: RecipePlan, recipe: Recipe, tokens: Int, tokenizer: Int,
        threads: Int
    ) throws(LatheError) {
        let runtime = Self.runtimeByteCount(threads: threads)
        let fixed = Self.fixedByteCount(tensors: definition.weights.count)
        let calibration = CalibrationMemory(
            recipe: recipe, plan: plan, definition: definition, tokens: tokens)
        let beside = fixed + calibration.kept
        let room = (budget ?? Self.defaultByteCount) - runtime - tokenizer - beside
        var schedules: [String: MatrixSchedule] = [:]
        var largest = max(SHA256.windowByteCount, RowSlices.byteCount(of: definition.weights))
        var hardest: (name: String, byteCount: Int)?
        for source in definition.weights where source.role == .matrix {
            let options = MatrixSchedule.Problem(source: source, format: plan.formats[source.name]!, threads: threads)
            // What a calibrated step made is whole already.
            let schedule = calibration.treats(source.name) ? options.whole : options.schedule(for: room)
            schedules[source.name] = schedule
            if schedule.byteCount > hardest?.byteCount ?? 0 { hardest = (source.name, schedule.byteCount) }
            largest = max(largest, schedule.byteCount)
        }
        let windows = max(beside + largest, fixed + calibration.whileRunning)
        memory = ConversionMemory(budget: budget, runtime: runtime, tokenizer: tokenizer, windows: windows)
        (self.threads, self.schedules, self.fixed, self.calibration) = (threads, schedules, fixed, calibration)
        if let budget, memory.planned > budget {
            throw Self.refusal(
                budget, memory, hardest: hardest?.name, largest: largest, calibration: calibration, threads: threads)
        }
    }

    /// Pieces of input and output in the kernel's cache, the writer's buffer, the header and what is told of each tensor.
    static func fixedByteCount(tensors: Int) -> Int {
        AtomicFile.cachedByteCount + InputFile.cachedByteCount + 3 * SafetensorsFile.windowByteCount + (1 << 18)
            + 4096 * tensors
    }

    private static func refusal(
        _ budget: Int, _ memory: ConversionMemory, hardest: String?, largest: Int, calibration: CalibrationMemory,
        threads: Int
    ) -> LatheError {
        var ways: [String] = ["a budget of \(memory.planned) bytes"]
        if calibration.whileRunning > 0 {
            ways.append("a recipe without calibrated steps, or a shorter calibration text")
        }
        if threads > 1 { ways.append("--threads 1") }
        let windows =
            calibration.whileRunning > largest
            ? "calibrated steps up to \(calibration.whileRunning)"
            : "\(hardest.map { quoted($0) } ?? "the largest tensor") in its smallest slices \(largest)"
        return LatheError(
            .budget,
            """
            This conversion would take \(memory.planned) bytes, \(memory.planned - budget) more than the budget of \(budget): \
            the program \(memory.runtime), the tokenizer \(memory.tokenizer), \(windows), the rest is windows on files. What \
            would help: \(ways.joined(separator: "; ")).
            """)
    }

    /// The account that the conversion takes its memory from: what the plan holds and no more, if there is a budget.
    func makeLedger(_ faults: Compiler.Faults) -> MemoryLedger { memory.makeLedger(faults) }
}

/// How one matrix is encoded: so many outputs at a time, and twice where the encoded whole has no room.
struct MatrixSchedule: Hashable {
    /// Outputs; a multiple of 16.
    let step: Int
    /// Sparse storage alone: slices are encoded to be counted, and again to be written.
    let encodesTwice: Bool
    /// At its peak.
    let byteCount: Int

    /// What is gathered of a whole matrix beside its values: as it comes, put together, and as it is written.
    static func gatheredByteCount(_ whole: PanelSize) -> Int { 3 * (whole.numbers + whole.starts) }

    /// A matrix for which a schedule is sought.
    struct Problem {
        let source: WeightSource
        let format: TensorFormat
        let threads: Int

        /// Floats converted at once where there is room: more is not faster.
        private static let sliceElements = 4 << 20

        private var columns: Int { source.shape[0].roundedUp(to: 16) }
        private var depth: Int { source.shape[1] }
        private var isSparse: Bool { format.sparse == .on || format.sparse == .auto }

        /// In one slice.
        var whole: MatrixSchedule { schedule(step: columns, encodesTwice: false) }

        /// That with the largest slices that `room` holds; the one that takes least where none fits.
        func schedule(for room: Int) -> MatrixSchedule {
            // Outputs that lie side by side are read together: every slice costs another reading of the tensor.
            let most = source.isTransposed ? columns : max(16, Self.sliceElements / max(1, depth) / 16 * 16)
            var steps: [Int] = []
            var step = min(columns, most)
            while step > 16 {
                steps.append(step)
                step = max(16, (step / 2).roundedUp(to: 16))
            }
            steps.append(16)
            var least = schedule(step: 16, encodesTwice: isSparse)
            for encodesTwice in isSparse ? [false, true] : [false] {
                for step in steps {
                    let schedule = schedule(step: step, encodesTwice: encodesTwice)
                    if schedule.byteCount <= room { return schedule }
                    if schedule.byteCount < least.byteCount { least = schedule }
                }
            }
            return least
        }

        private func schedule(step: Int, encodesTwice: Bool) -> MatrixSchedule {
            let count = min(step, source.shape[0])
            let whole = PanelSize(columns: source.shape[0], depth: depth, encoding: format.denseEncoding)
            let slice = PanelSize(columns: count, depth: depth, encoding: format.denseEncoding)
            let isPartial = source.isTransposed && count < source.shape[0]
            let reading = SafetensorsFile.floatWindowByteCount(of: source.entry.tensor, isPartial: isPartial)
            let encoding = slice.encoded + slice.expanded * threads
            let floats = count * depth * 4
            var peak = floats + max(reading, encoding)
            if isSparse, encodesTwice {
                // While the slice is packed, the masks of those before are there too.
                let packing = slice.encoded + slice.values + slice.starts
                peak = max(peak + 8 * slice.panels, floats + whole.masks + max(reading, encoding, packing))
            } else if isSparse {
                // The last slice is read and encoded beside the others; then they are packed one by one.
                let last = floats + max(reading, encoding - slice.values)
                peak = whole.values + max(last, whole.masks + slice.values + slice.starts, 8 * slice.panels)
            }
            return MatrixSchedule(
                step: step, encodesTwice: encodesTwice, byteCount: peak + MatrixSchedule.gatheredByteCount(whole))
        }
    }
}

/// Tables and vectors that stay float32 are written some rows at a time.
enum RowSlices {
    static func step(width: Int) -> Int { max(1, (1 << 16) / max(1, width)) }

    /// At the peak, of the tensors that are written so.
    static func byteCount(of weights: [WeightSource]) -> Int {
        weights.filter { $0.role == .rows }.map { source in
            let width = source.shape[source.shape.count - 1]
            let rows = min(step(width: width), source.shape.count == 2 ? source.shape[0] : 1)
            return rows * (width + width.roundedUp(to: 16)) * 4
                + SafetensorsFile.floatWindowByteCount(of: source.entry.tensor, isPartial: false)
        }.max() ?? 0
    }
}

/// What calibrated steps take: they hold one pass of the model over the text, and what they made.
struct CalibrationMemory {
    /// At their peak.
    let whileRunning: Int
    /// Of what they made, until it is written.
    let kept: Int
    private let treated: Set<String>

    func treats(_ name: String) -> Bool { treated.contains(name) }

    init(recipe: Recipe, plan: RecipePlan, definition: ModelDefinition, tokens: Int) {
        guard recipe.needsCalibration else {
            (whileRunning, kept, treated) = (0, 0, [])
            return
        }
        let tables = definition.embeddingTables
        let matrices = definition.weights.filter { $0.role == .matrix }
        let layers = matrices.filter { !tables.contains($0.name) && plan.formats[$0.name]?.weights != .float32 }
        treated = Set(layers.map(\.name))
        var kept = 0
        var widest = 0
        var working = 0
        for source in layers {
            let (columns, depth) = (source.shape[0], source.shape[1])
            let format = plan.formats[source.name]!
            kept += PanelSize(columns: columns, depth: depth, encoding: format.denseEncoding).encoded
            widest = max(widest, columns, depth)
            // The weights as they were, smoothed, corrected, in numbers and as stored; XᵀX, its factor and what LAPACK takes.
            let gram = recipe.method == .gptq ? 28 * depth * depth : 0
            working = max(working, 28 * columns * depth + gram)
        }
        let table = matrices.map { 8 * $0.shape[0] * $0.shape[1] }.max() ?? 0
        self.kept = kept
        // A value, what it is made of and what comes of it, for all tokens; OpenBLAS and its buffers.
        whileRunning = kept + max(working, table) + 4 * tokens * widest * 4 + 64_000_000
    }
}
