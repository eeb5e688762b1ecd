import ArgumentParser
import Lathe
import LatheFormat
import LatheService
import LatheWorkbench

struct BatchCommand: AsyncParsableCommand, FencedCommand {
    static let configuration = CommandConfiguration(
        commandName: "batch",
        abstract: "Answer every line of a file, in OpenAI's batch format.",
        discussion: """
            Each line of the input is {"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {"prompt": …}}; \
            /generate is the other url. Answers come in the same order, one a line, as {"id", "custom_id", "response": \
            {"status_code", "request_id", "body"}, "error"}. A line that cannot be answered is answered by what is wrong with \
            it; the run goes on, says at its end how many there were, and ends with 0.

            Until all is done, answers stand in OUT.jsonl.partial. A run that was interrupted goes on from there when it is \
            started again in the same way, and makes the same file, to the byte, as one that was not. For that nothing is \
            random: a body without a seed gets one from its custom_id and --seed.
            """)

    @Argument(help: "The calls, one a line.", completion: .file(extensions: ["jsonl"]))
    var input: String
    @Option(
        name: .shortAndLong, help: ArgumentHelp("The file to write.", valueName: "out.jsonl"),
        completion: .file(extensions: ["jsonl"]))
    var output: String
    @OptionGroup var model: ModelArguments
    @OptionGroup(title: "Memory") var memory: FenceArguments
    @Option(
        help: ArgumentHelp("Sequences that run at once. (default: up to 16, as fit)", valueName: "n"))
    var sessions: Int?
    @Option(
        help: ArgumentHelp(
            "What the \"model\" of a body must be, where there is one. (default: the file's name)", valueName: "name"))
    var modelName: String?
    @Option(help: ArgumentHelp("Of this the seeds of calls that name none are made.", valueName: "n"))
    var seed: UInt64 = 0
    @Flag(help: "Print one JSON object with counts and speed.")
    var json = false

    var filesRead: [String] { [model.model, input] }
    var filesMapped: [String] { [model.model] }

    func validate() throws {
        try model.requireOneThreadCount()
        if let sessions, sessions < 1 { throw ValidationError("--sessions must be at least 1.") }
    }

    func run() async throws {
        let outline = try model.outline()
        var settings = ServiceSettings(modelName: modelName ?? Self.name(ofModelAt: model.model))
        settings.engine = model.engineOptions(budget: memory.memoryBudget)
        settings.sessions = sessions
        var batch = Batch(input: input, output: output, settings: settings)
        batch.seed = seed
        try batch.check(modelPaths: try ModelLoading.inputPaths(model.model))
        let fitting = try ServicePlan.fitting(batch.settings) { options throws(LatheError) in
            try MemoryPlan(outline: outline, options: options)
        }
        let (model, plan) = try model.load(budget: memory.memoryBudget) { $0 = fitting.options }
        Interruption.willLeave(
            "Interrupted. What is answered stands in \(batch.partialPath); the same command goes on from there.")
        let display = BatchDisplay()
        let result = try await batch.run(model: model, plan: plan, progress: display.show)
        ProgressBar.show(fraction: 1, label: "")
        if json { printJSON(result, plan) } else { StandardError.print(summary(result)) }
    }

    /// `novelist` of `models/novelist` and of `files/novelist.lathe`.
    static func name(ofModelAt path: String) -> String {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        return name.hasSuffix(".lathe") ? String(name.dropLast(6)) : name
    }

    private func printJSON(_ result: BatchResult, _ plan: MemoryPlan) {
        StandardOutput.print([
            "output": .string(output),
            "request_counts": [
                "total": .number(result.tally.total), "completed": .number(result.tally.completed),
                "failed": .number(result.tally.failed), "resumed": .number(result.resumed.total),
            ],
            "prompt_tokens": .number(result.tally.promptTokens), "completion_tokens": .number(result.tally.newTokens),
            "seconds": .number(result.seconds), "tokens_per_second": .number(result.tokensPerSecond),
            "sessions": .number(plan.sessions),
            "peak_resident_bytes": ProcessMemory.peakResidentBytes().map(JSON.number) ?? .null,
        ])
    }

    private func summary(_ result: BatchResult) -> String {
        let tally = result.tally
        var parts = ["\(output): \(tally.completed) of \(tally.total) answered"]
        if tally.failed > 0 { parts[0] += ", \(tally.failed) refused or failed (each says why)" }
        if result.resumed.total > 0 { parts.append("\(result.resumed.total) of them by an earlier run") }
        parts.append("\(tally.promptTokens) prompt and \(tally.newTokens) new tokens")
        parts.append("\(result.seconds.rounded(to: 1)) s, \(result.tokensPerSecond.rounded(to: 0)) new tokens/s")
        if let peak = ProcessMemory.peakResidentBytes() { parts.append("peak memory \(Bytes.text(peak))") }
        return parts.joined(separator: " · ")
    }
}

/// The bar, drawn a few times a second.
private final class BatchDisplay {
    private let start = ContinuousClock.now
    private var last: ContinuousClock.Instant?

    func show(_ progress: BatchProgress) {
        let now = ContinuousClock.now
        if let last, now - last < .milliseconds(100) { return }
        last = now
        let seconds = (now - start).seconds
        let done = progress.fraction - progress.resumedFraction
        var label = "\(progress.tally.total) answered"
        if seconds > 1 {
            let tokens = Double(progress.tally.newTokens - progress.resumed.newTokens)
            label += ", \((tokens / seconds).rounded(to: 0)) tokens/s"
            if done > 0 { label += ", \(TimedProgress.text(seconds / done * (1 - progress.fraction))) left" }
        }
        // The end is when the file has its name.
        ProgressBar.show(fraction: min(0.999, progress.fraction), label: label)
    }
}
