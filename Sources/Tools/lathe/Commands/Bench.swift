import ArgumentParser
import Lathe
import LatheFormat
import LatheWorkbench

struct Bench: AsyncParsableCommand, FencedCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure prefill and decode speed, memory and load time, beside what the machine can read.",
        discussion: """
            The probe reads the model's own weights with the same threads, right before and after each phase: the roof of \
            decoding. Without --prompt-tokens a prompt is 512 tokens, or what the context leaves beside the new ones.
            """)

    @OptionGroup var model: ModelArguments
    @OptionGroup(title: "Memory") var memory: FenceArguments
    @Option(help: ArgumentHelp("Tokens of each prompt. (default: 512, or what fits)", valueName: "n"))
    var promptTokens: Int?
    @Option(help: ArgumentHelp("Tokens generated after it. (default: 128, or what fits)", valueName: "n"))
    var newTokens: Int?
    @Option(help: ArgumentHelp("Sessions that run at once.", valueName: "n"))
    var batch: Int = 1
    @Option(help: ArgumentHelp("Runs that are counted, after one that is not.", valueName: "n"))
    var runs: Int = 5
    @Option(help: ArgumentHelp("Of the random prompts; each run has others.", valueName: "n"))
    var seed: UInt64 = 1
    @Flag(help: "Print one JSON object.")
    var json = false

    var filesRead: [String] { [model.model] }
    var filesMapped: [String] { [model.model] }

    func run() async throws {
        PhaseMarks.mark("load")
        let clock = ContinuousClock()
        let start = clock.now
        let (model, plan) = try model.load(budget: memory.memoryBudget) {
            $0.maximumSessions = max(1, batch)
            $0.threads = self.model.threads?.counts.max()
        }
        let loaded: LoadedEngine
        do {
            let engine = try Engine(model: model, plan: plan)
            loaded = LoadedEngine(engine, seconds: (clock.now - start).seconds)
        }
        var benchmark = Benchmark()
        let context = plan.contextLength
        let newTokens = newTokens ?? max(2, min(128, context / 2))
        benchmark.promptTokens = promptTokens ?? min(512, max(1, context - min(max(0, newTokens), context)))
        benchmark.newTokens = newTokens
        benchmark.batch = batch
        benchmark.runs = runs
        benchmark.seed = seed

        var results: [Benchmark.Result] = []
        for threads in self.model.threads?.counts ?? [loaded.threads] {
            results += try await benchmark.measure(
                model: model, options: self.model.engineOptions(budget: memory.memoryBudget), threads: threads
            ) { run in
                ProgressBar.show(fraction: Double(run) / (Double(runs) + 1), label: "\(threads) threads, run \(run)")
            }
        }
        ProgressBar.show(fraction: 1, label: "")
        if json {
            printJSON(results, loaded)
        } else {
            printTable(results, benchmark, loaded)
        }
    }

    private func printJSON(_ results: [Benchmark.Result], _ loaded: LoadedEngine) {
        StandardOutput.print([
            "model": .string(model.model),
            "isa": .string(loaded.instructionSet.name),
            "kernels": .object(JSONObject(loaded.kernelNames.map { ($0.family, JSON.string($0.name)) })),
            "numa": [
                "nodes": .array(loaded.nodes.nodes.map(JSON.number)), "source": .string(loaded.nodes.source),
                "placed_bytes": .number(loaded.placedWeightBytes),
            ],
            "load_seconds": .number(loaded.seconds),
            "resident_weight_bytes": .number(loaded.residentWeightBytes),
            "peak_resident_bytes": ProcessMemory.peakResidentBytes().map(JSON.number) ?? .null,
            "results": .array(results.map(\.json)),
        ])
    }

    private func printTable(
        _ results: [Benchmark.Result], _ benchmark: Benchmark, _ loaded: LoadedEngine
    ) {
        var table = TextTable(
            ["phase", "threads", "batch", "tokens/s", "min", "max", "first token", "probe GB/s", "of probe"],
            rightAligned: [1, 2, 3, 4, 5, 6, 7, 8])
        for result in results {
            table.add([
                result.phase.rawValue, "\(result.threads)", "\(result.batch)",
                result.tokensPerSecond.median.rounded(to: 1), result.tokensPerSecond.minimum.rounded(to: 1),
                result.tokensPerSecond.maximum.rounded(to: 1),
                result.timeToFirstToken.map { "\(($0.median * 1000).rounded(to: 1)) ms" } ?? "",
                (result.probeBytesPerSecond / 1e9).rounded(to: 1), result.ratioToProbe?.rounded(to: 3) ?? "",
            ])
        }
        StandardOutput.write(table.text)
        StandardOutput.print(
            """
            \(loaded.instructionSet) · \(loaded.nodeSummary) · loaded in \((loaded.seconds * 1000).rounded(to: 1)) ms · \(loaded.weightSummary)\
            \(ProcessMemory.peakResidentBytes().map { " · peak memory \(Bytes.text($0))" } ?? "") · \
            medians of \(runs) runs, \(benchmark.promptTokens) prompt and \(benchmark.newTokens) new tokens
            """)
    }
}

/// What is told of the engine that was loaded to time it. It ends before others are measured, so that no memory counts
/// twice.
private struct LoadedEngine {
    let instructionSet: InstructionSet
    let threads: Int
    let kernelNames: [(family: String, name: String)]
    let residentWeightBytes: Int
    let weightSummary: String
    let nodes: NodePlacement
    let nodeSummary: String
    let placedWeightBytes: Int
    let seconds: Double

    init(_ engine: Engine, seconds: Double) {
        self.seconds = seconds
        instructionSet = engine.instructionSet
        threads = engine.threads.count
        kernelNames = engine.kernelNames
        residentWeightBytes = engine.residentWeightBytes
        weightSummary = engine.weightSummary
        nodes = engine.nodes
        nodeSummary = engine.nodeSummary
        placedWeightBytes = engine.placedWeightBytes
    }
}

extension Benchmark.Result {
    fileprivate var json: JSON {
        var members: [(String, JSON)] = [
            ("phase", .string(phase.rawValue)), ("threads", .number(threads)), ("batch", .number(batch)),
            ("tokens", .number(tokens)), ("tokens_per_second", tokensPerSecond.json),
            ("bytes_per_token", .number(bytesPerToken)), ("probe_bytes_per_second", .number(probeBytesPerSecond)),
            ("ratio_to_probe", ratioToProbe.map(JSON.number) ?? .null),
            ("operations_per_second", .number(operationsPerSecond)),
        ]
        members.append(("major_page_faults", majorPageFaults.map(JSON.number) ?? .null))
        if let timeToFirstToken { members.append(("time_to_first_token_seconds", timeToFirstToken.json)) }
        return .object(JSONObject(members))
    }
}

extension Benchmark.Statistics {
    fileprivate var json: JSON { ["median": .number(median), "min": .number(minimum), "max": .number(maximum)] }
}
