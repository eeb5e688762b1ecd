import ArgumentParser
import Lathe
import LatheCompiler
import LatheFormat
import LatheWorkbench

struct SweepCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sweep",
        abstract: "Measure many recipes of a checkpoint: bytes, memory, speed, quality.",
        discussion: """
            Each recipe is pruned, converted, timed in a process of its own and compared with the float32 checkpoint on the \
            text. Its result is a file in the output folder at once, so that a sweep which was stopped goes on where it was; \
            table.md, table.csv, table.json and pareto.svg there say what came of all. Never give the text that is used \
            for calibration or training.

            A recipes file is YAML: a list of entries with the fields that `lathe inspect` shows of a recipe, and `prune` \
            with those of `lathe prune`. A list of values stands for one recipe for each:

              - weights: [int8, int4]
                group_size: [32, 64]
                prune: {criterion: magnitude, sparsity: [0, 0.5]}
            """)

    @Argument(help: "The checkpoint folder.", completion: .directory)
    var checkpoint: String
    @Option(
        help: ArgumentHelp("The file with the text on which quality is measured.", valueName: "file"),
        completion: .file())
    var text: String
    @Option(
        help: ArgumentHelp("A YAML file with recipes, or `default`.", valueName: "file.yaml|default"),
        completion: .file(extensions: ["yaml", "yml"]))
    var recipes: String = "default"
    @Option(
        name: .shortAndLong, help: ArgumentHelp("The folder of results.", valueName: "folder"), completion: .directory)
    var output: String
    @Option(
        help: ArgumentHelp("A text for wanda, gptq, smoothing and bias correction to look at.", valueName: "file"),
        completion: .file())
    var calibration: String?
    @Option(help: ArgumentHelp("Measure on the first so many tokens of the text. (default: all)", valueName: "n"))
    var tokens: Int?
    @Option(
        help: ArgumentHelp(
            "Thread counts to time. (default: what affinity, CPU quota and cores allow)", valueName: "n,n"))
    var threads: ThreadCounts?
    @Option(help: ArgumentHelp("Runs of each benchmark that count.", valueName: "n"))
    var runs: Int = 5
    @Flag(help: "Print one JSON object instead of the table.")
    var json = false

    func run() async throws {
        let list =
            recipes == "default"
            ? try SweepRecipes.standard(calibrated: calibration != nil)
            : try SweepRecipes(json: try readRecipes(recipes), source: recipes)
        var sweep = Sweep(
            checkpoint: checkpoint, text: text, recipes: list.recipes, output: output, calibration: calibration,
            threads: try threads?.counts ?? [ThreadCount(requested: nil).count])
        sweep.maximumTokens = tokens
        sweep.runs = runs
        let outcome = try await sweep.run(lathe: ChildProcess.run) { progress in
            ProgressBar.show(
                fraction: min(0.999, (Double(progress.recipe) + progress.fraction) / Double(progress.recipeCount)),
                label: "\(progress.recipe + 1)/\(progress.recipeCount) \(progress.name): \(progress.step)")
        }
        ProgressBar.show(fraction: 1, label: "")
        let tables = SweepTables(outcome.results, failures: outcome.failures)
        if json { StandardOutput.print(tables.json) } else { StandardOutput.write(tables.markdown) }
        if outcome.reusedCount > 0 {
            StandardError.warn("\(outcome.reusedCount) of \(list.recipes.count) results stood in \(output) already.")
        }
        if let failure = outcome.failures.first {
            throw LatheError(
                .io,
                "\(outcome.failures.count) of \(list.recipes.count) recipes failed; \(quoted(failure.name)): "
                    + failure.reason)
        }
    }
}
