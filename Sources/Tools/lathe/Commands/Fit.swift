import ArgumentParser
import Lathe
import LatheFormat
import LatheWorkbench

struct FitCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fit",
        abstract: "Find the fastest recipe that fits a memory budget and keeps its quality, and write its file.",
        discussion: """
            Memory is the measured peak of a process that runs the model with its context full in every session. Quality is \
            the perplexity on the text, compared with the float32 checkpoint's; the increase counts with two of its standard \
            errors, so that it should hold on another text of the kind. Ends with 2 and writes nothing if no recipe fits.
            """)

    @Argument(help: "The checkpoint folder.", completion: .directory)
    var checkpoint: String
    @Option(help: ArgumentHelp("What the process may take at its peak.", valueName: "700MB"))
    var memoryBudget: ByteCount
    @Option(help: ArgumentHelp("How much the perplexity may rise.", valueName: "1%"))
    var maxPerplexityIncrease: Fraction
    @Option(
        help: ArgumentHelp("The file with the text on which quality is measured.", valueName: "file"),
        completion: .file())
    var text: String
    @Option(
        name: .shortAndLong, help: ArgumentHelp("The file to write.", valueName: "file.lathe"),
        completion: .file(extensions: ["lathe"]))
    var output: String
    @Option(help: ArgumentHelp("Tokens that each session holds. (default: the model's context)", valueName: "n"))
    var context: Int?
    @Option(help: ArgumentHelp("Sessions that run at once.", valueName: "k"))
    var sessions: Int = 1
    @Option(
        help: ArgumentHelp("A text for wanda and gptq to look at, which then are candidates too.", valueName: "file"),
        completion: .file())
    var calibration: String?
    @Option(
        help: ArgumentHelp("Candidates, as for `lathe sweep`. (default: a dozen that pay)", valueName: "file.yaml"),
        completion: .file(extensions: ["yaml", "yml"]))
    var recipes: String?
    @Option(help: ArgumentHelp("Measure on the first so many tokens of the text. (default: all)", valueName: "n"))
    var tokens: Int?
    @Option(help: ArgumentHelp("Compute threads. (default: what affinity, CPU quota and cores allow)", valueName: "n"))
    var threads: Int?
    @Flag(help: "Print one JSON object instead of the table.")
    var json = false

    func run() async throws {
        let list =
            try recipes.map { path throws(LatheError) in
                try SweepRecipes(json: try readRecipes(path), source: path)
            } ?? SweepRecipes.candidates(calibrated: calibration != nil)
        var fit = Fit(
            checkpoint: checkpoint, text: text, output: output, candidates: list.recipes, calibration: calibration,
            memoryBudget: memoryBudget.bytes, maximumIncrease: maxPerplexityIncrease.value,
            threads: try ThreadCount(requested: threads).count)
        fit.contextLength = context
        fit.sessions = sessions
        fit.maximumTokens = tokens
        let verdicts = try await fit.run(lathe: ChildProcess.run) { progress in
            ProgressBar.show(
                fraction: min(0.999, (Double(progress.recipe) + progress.fraction) / Double(progress.recipeCount)),
                label: "\(progress.recipe + 1)/\(progress.recipeCount) \(progress.name): \(progress.step)")
        }
        ProgressBar.show(fraction: 1, label: "")
        let chosen = verdicts.first { $0.kind == .chosen }
        if json {
            StandardOutput.print([
                "output": chosen == nil ? .null : .string(output), "chosen": chosen.map { .string($0.name) } ?? .null,
                "memory_budget_bytes": .number(memoryBudget.bytes),
                "max_perplexity_increase": .number(maxPerplexityIncrease.value), "sessions": .number(sessions),
                "candidates": .array(verdicts.map(\.json)),
            ])
        } else {
            printTable(verdicts)
        }
        guard let chosen else {
            throw LatheError(
                .budget,
                "None of \(verdicts.count) recipes keeps to \(Bytes.text(memoryBudget.bytes)) and to a perplexity at most "
                    + "\(Percent.text(maxPerplexityIncrease.value)) higher; allow more of one of them.")
        }
        if !json { StandardOutput.print("\(output): \(chosen.name), \(Bytes.text(chosen.fileBytes ?? 0)).") }
    }

    private func printTable(_ verdicts: [Fit.Verdict]) {
        var table = TextTable(
            ["recipe", "file", "memory", "decode tokens/s", "perplexity", "verdict"], rightAligned: [1, 2, 3, 4])
        for verdict in verdicts {
            table.add([
                verdict.name, verdict.fileBytes.map(Bytes.text) ?? "",
                verdict.speed.map { Bytes.text($0.peakResidentBytes) } ?? "",
                verdict.speed?.decode.last.map { $0.tokensPerSecond.rounded(to: 1) } ?? "",
                verdict.quality.map { $0.perplexity.rounded(to: 2) } ?? "", verdict.reason,
            ])
        }
        StandardOutput.write(table.text)
    }
}

/// `1%` or `0.01`.
struct Fraction: ExpressibleByArgument {
    let value: Double

    init?(argument: String) {
        let isPercent = argument.hasSuffix("%")
        guard let number = Double(isPercent ? String(argument.dropLast()) : argument), number.isFinite, number >= 0
        else { return nil }
        value = isPercent ? number / 100 : number
    }
}
