import ArgumentParser
import Lathe
import LatheFormat
import LatheWorkbench

struct Evaluate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure how well a model predicts a text, and what its compression cost.",
        discussion: """
            Perplexity over overlapping windows of the context, each token counted once, as Hugging Face measures it. The \
            text is taken as one piece, as it stands.
            """)

    @OptionGroup var model: ModelArguments
    @Option(help: ArgumentHelp("The file with the text.", valueName: "file"), completion: .file())
    var text: String
    @Option(help: ArgumentHelp("Tokens that the model sees at once. (default: its context)", valueName: "w"))
    var window: Int?
    @Option(
        help: ArgumentHelp("Tokens from one window's start to the next one's. (default: half a window)", valueName: "s"))
    var stride: Int?
    @Flag(help: "Print one JSON object.")
    var json = false

    func validate() throws { try model.requireOneThreadCount() }

    func run() async throws {
        let start = ContinuousClock.now
        let model = try model.loadModel()
        let windows = try EvaluationWindows(
            length: window, stride: stride, contextLength: model.configuration.contextLength)
        guard let tokenizer = model.tokenizer else {
            throw LatheError(
                .missing,
                "\(self.model.model) has no tokenizer, so it reads no text: put tokenizer.json into its checkpoint folder.")
        }
        let text = try EvaluationText(try readFile(text), tokenizer: tokenizer, source: text)
        let progress = TimedProgress("evaluating")
        let evaluation = Evaluation(windows: windows, options: self.model.engineOptions())
        let result = try await evaluation.measure(model, on: text, progress: progress.show)
        if json {
            StandardOutput.print(.object(result.json))
        } else {
            printTable(result, seconds: (ContinuousClock.now - start).seconds)
        }
    }

    private func printTable(_ result: EvaluationResult, seconds: Double) {
        StandardOutput.print(
            """
            perplexity      \(result.perplexity.rounded(to: 4)) ± \(result.standardError.rounded(to: 4))
            bits per byte   \(result.bitsPerByte.rounded(to: 4))
            """)
        StandardOutput.print(
            """
            \(result.tokens) tokens counted, windows of \(result.window), stride \(result.stride), \
            \(seconds.rounded(to: 1)) s
            """)
    }
}
