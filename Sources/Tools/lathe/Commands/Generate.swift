import ArgumentParser
import Lathe
import LatheFormat
import LatheWorkbench

struct Generate: AsyncParsableCommand, FencedCommand {
    static let configuration = CommandConfiguration(
        abstract: "Continue a text.",
        discussion: """
            The text goes to stdout as it comes, a closing line with speed and memory to stderr. Without sampling \
            options the likeliest token is taken each time.
            """)

    @OptionGroup var model: ModelArguments
    @OptionGroup(title: "Memory") var memory: FenceArguments
    @Argument(help: "The text to continue; read from stdin if absent. Empty: the model begins by itself.")
    var prompt: String?
    @Option(help: ArgumentHelp("The prompt as token ids instead of text.", valueName: "1,2,3"))
    var ids: String?
    @Option(
        name: .customShort("n"),
        help: ArgumentHelp("The most tokens to generate. (default: 64, or what fits)", valueName: "n"))
    var maximumTokens: Int?
    @Option(help: ArgumentHelp("0 takes the likeliest token each time; higher is more varied.", valueName: "t"))
    var temperature: Float = 0
    @Option(help: ArgumentHelp("Sample from this many likeliest tokens.", valueName: "k"))
    var topK: Int?
    @Option(help: ArgumentHelp("Sample from the likeliest tokens whose probabilities reach this sum.", valueName: "p"))
    var topP: Float?
    @Option(help: ArgumentHelp("Drop tokens less likely than this fraction of the likeliest.", valueName: "p"))
    var minP: Float?
    @Option(
        help: ArgumentHelp("Makes tokens that stand in the text already less likely; 1 does nothing.", valueName: "r"))
    var repetitionPenalty: Float = 1
    @Option(help: ArgumentHelp("Same seed, same text. (default: drawn at random)", valueName: "n"))
    var seed: UInt64?
    @Option(help: ArgumentHelp("End before this text; may be given several times.", valueName: "string"))
    var stop: [String] = []
    @Option(
        help: ArgumentHelp(
            "Guess so many tokens ahead by what stood before: faster where a text repeats, the same text always.",
            valueName: "n"))
    var promptLookup: Int = 0
    @Flag(help: "Print one JSON object instead of the text.")
    var json = false

    var filesRead: [String] { [model.model] }
    var filesMapped: [String] { [model.model] }

    func validate() throws { try model.requireOneThreadCount() }

    func run() async throws {
        PhaseMarks.mark("load")
        let (model, plan) = try model.load(budget: memory.memoryBudget)
        var tokens = try promptTokens(model)
        // What the session would feed for it, so that it is counted and printed.
        if tokens.isEmpty, let first = model.configuration.beginningOfTextID { tokens = [Int32(first)] }
        var options = options
        // Drawn here, so that it can be printed and the run repeated; small enough for every reader of JSON.
        options.seed = seed ?? UInt64.random(in: 0..<1 << 53)
        let engine = try Engine(model: model, plan: plan)
        options.maximumTokens = maximumTokens ?? max(1, min(64, engine.contextLength - tokens.count))
        let session = try engine.makeSession()

        let clock = ContinuousClock()
        PhaseMarks.mark("prefill")
        let start = clock.now
        var firstTokenAt = start
        var ids: [Int32] = []
        var text = ""
        var reason = FinishReason.length
        for try await token in try session.generate(tokens, options: options) {
            if ids.isEmpty {
                firstTokenAt = clock.now
                PhaseMarks.mark("decode")
            }
            ids.append(token.id)
            text += token.text
            reason = token.finishReason ?? reason
            if !json {
                StandardOutput.write(model.tokenizer == nil ? "\(ids.count > 1 ? "," : "")\(token.id)" : token.text)
            }
        }
        let end = clock.now
        await MemoryReporting.tell(engine)
        PhaseMarks.mark("idle")
        let timing = Timing(
            promptTokens: tokens.count, newTokens: ids.count, firstToken: (firstTokenAt - start).seconds,
            rest: (end - firstTokenAt).seconds)
        if json {
            printJSON(model, tokens, ids, text, reason, options.seed!, timing)
        } else {
            StandardOutput.write("\n")
            StandardError.print(timing.summary(engine) + (temperature > 0 ? " · seed \(options.seed!)" : ""))
        }
    }

    private var options: GenerationOptions {
        var options = GenerationOptions()
        options.temperature = temperature
        options.topK = topK
        options.topP = topP
        options.minP = minP
        options.repetitionPenalty = repetitionPenalty
        options.stop = stop
        options.promptLookup = promptLookup
        return options
    }

    private func promptTokens(_ model: Model) throws -> [Int32] {
        if let ids {
            guard prompt == nil else { throw ValidationError("Give the prompt as text or as --ids, not both.") }
            return try parseTokenIDs(ids)
        }
        guard let tokenizer = model.tokenizer else { throw missingTokenizer(self.model.model) }
        if let prompt { return tokenizer.encode(prompt) }
        if StandardInput.isTerminal { StandardError.print("Type the text to continue, then Ctrl-D.") }
        return try tokenizer.encode(bytes: try StandardInput.readAll())
    }

    private func printJSON(
        _ model: Model, _ prompt: [Int32], _ ids: [Int32], _ text: String, _ reason: FinishReason, _ seed: UInt64,
        _ timing: Timing
    ) {
        StandardOutput.print([
            "prompt_ids": .array(prompt.map(JSON.number)),
            "ids": .array(ids.map(JSON.number)),
            "text": model.tokenizer == nil ? .null : .string(text),
            "finish_reason": .string(reason.rawValue),
            "seed": .number(seed),
            "time_to_first_token_seconds": .number(timing.firstToken),
            "prefill_tokens_per_second": .number(timing.prefillRate),
            "decode_tokens_per_second": timing.decodeRate.map(JSON.number) ?? .null,
            "peak_resident_bytes": ProcessMemory.peakResidentBytes().map(JSON.number) ?? .null,
        ])
    }
}

/// When the tokens of one generation came.
private struct Timing {
    let promptTokens: Int
    let newTokens: Int
    /// Seconds from the request to its first token, and from there to its last.
    let firstToken: Double
    let rest: Double

    var prefillRate: Double { Double(promptTokens) / max(firstToken, 1e-9) }
    /// nil for a single token, which the prompt's pass gave.
    var decodeRate: Double? { newTokens > 1 ? Double(newTokens - 1) / max(rest, 1e-9) : nil }

    func summary(_ engine: Engine) -> String {
        var parts = ["prefill \(prefillRate.rounded(to: 0)) tokens/s"]
        if let decodeRate { parts.append("decode \(decodeRate.rounded(to: 0)) tokens/s") }
        parts.append("first token \((firstToken * 1000).rounded(to: 1)) ms")
        parts.append(engine.weightSummary)
        if let peak = ProcessMemory.peakResidentBytes() { parts.append("peak memory \(Bytes.text(peak))") }
        let threads = engine.threads.count
        parts.append("\(engine.instructionSet), \(threads) thread\(threads == 1 ? "" : "s") (\(engine.threads.source))")
        parts.append(engine.nodeSummary)
        return parts.joined(separator: " · ")
    }
}
