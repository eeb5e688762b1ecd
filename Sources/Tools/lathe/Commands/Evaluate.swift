import ArgumentParser
import Lathe
import LatheFormat
import LatheWorkbench

struct Evaluate: AsyncParsableCommand, FencedCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure how well a model predicts a text, and what its compression cost.",
        discussion: """
            Perplexity over overlapping windows of the context, each token counted once, as Hugging Face measures it. The \
            text is taken as one piece, as it stands.
            """)

    @OptionGroup var model: ModelArguments
    @OptionGroup(title: "Memory") var memory: FenceArguments
    @Option(help: ArgumentHelp("The file with the text.", valueName: "file"), completion: .file())
    var text: String
    @Option(
        help: ArgumentHelp(
            "A checkpoint folder to compare with, in float32: usually what the model was made of.", valueName: "folder"),
        completion: .directory)
    var reference: String?
    @Option(help: ArgumentHelp("Tokens that the model sees at once. (default: its context)", valueName: "w"))
    var window: Int?
    @Option(
        help: ArgumentHelp("Tokens from one window's start to the next one's. (default: half a window)", valueName: "s")
    )
    var stride: Int?
    @Flag(help: "Print one JSON object.")
    var json = false

    var filesRead: [String] { [model.model, text] + (reference.map { [$0] } ?? []) }
    var filesMapped: [String] { [model.model] }

    func validate() throws {
        try model.requireOneThreadCount()
        if memory.memoryBudget != nil && reference != nil {
            throw ValidationError(
                "--memory-budget plans the model, not the float32 pass of --reference; leave one of them away.")
        }
    }

    func run() async throws {
        PhaseMarks.mark("load")
        let start = ContinuousClock.now
        let outline = try model.outline()
        let windows = try EvaluationWindows(
            length: window, stride: stride, contextLength: model.context ?? outline.configuration.contextLength)
        let evaluation = Evaluation(
            windows: windows, options: model.engineOptions(budget: memory.memoryBudget))
        let options = try evaluation.engineOptions(for: outline)
        let (model, _) = try model.load(budget: memory.memoryBudget) { $0 = options }
        guard let tokenizer = model.tokenizer else {
            throw LatheError(
                .missing,
                "\(self.model.model) has no tokenizer, so it reads no text: put tokenizer.json into its checkpoint folder."
            )
        }
        let text = try EvaluationText(try readFile(text), tokenizer: tokenizer, source: text)
        let reference = try reference.map { path throws(LatheError) in
            try EvaluationReference(checkpoint: path, threads: self.model.threads?.first)
        }
        let progress = TimedProgress("evaluating")
        PhaseMarks.mark("evaluate")
        let result = try await evaluation.measure(model, on: text, against: reference, progress: progress.show)
        if json {
            printJSON(result, text)
        } else {
            printTable(result, text, seconds: (ContinuousClock.now - start).seconds)
        }
    }

    private func printJSON(_ result: EvaluationResult, _ text: EvaluationText) {
        StandardOutput.print(.object(result.json(excerpt: { text.excerpt(around: $0, marks: ("", "")) })))
    }

    private func printTable(_ result: EvaluationResult, _ text: EvaluationText, seconds: Double) {
        StandardOutput.print(
            """
            perplexity          \(result.perplexity.rounded(to: 4)) ± \(result.standardError.rounded(to: 4))
            bits per byte       \(result.bitsPerByte.rounded(to: 4))
            """)
        if let comparison = result.comparison {
            let change = result.perplexity / comparison.perplexity - 1
            StandardOutput.print(
                """
                reference           \(comparison.perplexity.rounded(to: 4)); the model's is \
                \((100 * change).rounded(to: 3)) % \(change < 0 ? "lower" : "higher")
                mean divergence     \(comparison.meanDivergence.scientific) nats, KL(reference ‖ model)
                same likeliest      \((100 * comparison.top1Agreement).rounded(to: 2)) %
                Δ probability, rms  \(comparison.rmsProbabilityDifference.scientific)
                worst position      token \(comparison.worstToken), \(comparison.worstDivergence.scientific) nats: \
                \(text.excerpt(around: comparison.worstToken, marks: ("⟦", "⟧")).debugDescription)
                """)
        }
        StandardOutput.print(
            """
            \(result.tokens) tokens counted, windows of \(result.window), stride \(result.stride), \
            \(seconds.rounded(to: 1)) s
            """)
    }
}
