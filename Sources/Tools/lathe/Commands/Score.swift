import ArgumentParser
import Lathe
import LatheFormat
import LatheWorkbench

struct Score: AsyncParsableCommand, FencedCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print how likely each token of a text is, given those before it.")

    @OptionGroup var model: ModelArguments
    @OptionGroup(title: "Memory") var memory: FenceArguments
    @OptionGroup var input: InputArguments
    @Option(
        help: ArgumentHelp("Also write all logits, one F32 tensor [tokens, vocabulary].", valueName: "out.safetensors"),
        completion: .file(extensions: ["safetensors"]))
    var logits: String?
    @Flag(help: "Print one JSON object instead of a table.")
    var json = false

    var filesRead: [String] { [model.model] }
    var filesMapped: [String] { [model.model] }

    func validate() throws { try model.requireOneThreadCount() }

    func run() async throws {
        PhaseMarks.mark("load")
        let (model, plan) = try model.load(budget: memory.memoryBudget)
        let tokens = try input.tokens(model, path: self.model.model)
        let engine = try Engine(model: model, plan: plan)
        guard tokens.count <= engine.contextLength else {
            throw LatheError(
                .invalidRequest,
                "The text has \(tokens.count) tokens; the context holds \(engine.contextLength).")
        }
        let session = try engine.makeSession()
        let scores: [TokenScore]
        if let logits {
            try checkOutput(
                logits, isNoneOf: try ModelLoading.inputPaths(self.model.model) + (input.file.map { [$0] } ?? []))
            let writer = try LogitsWriter(
                path: logits, tokens: tokens.count, vocabularySize: model.configuration.vocabularySize)
            scores = try await session.score(tokens, onLogits: writer.receive)
            try writer.finish()
        } else {
            scores = try await session.score(tokens)
        }
        await MemoryReporting.tell(engine)
        if let index = scores.firstIndex(where: { $0.logProbability?.isFinite == false }) {
            throw LatheError(.notFinite, "The log-probability of token \(index) is not finite.")
        }
        if json { printJSON(scores) } else { printTable(scores, model) }
    }

    private func printJSON(_ scores: [TokenScore]) {
        StandardOutput.print([
            "tokens": .array(scores.map { .number($0.id) }),
            "logprobs": .array(scores.map { $0.logProbability.map(JSON.number) ?? .null }),
        ])
    }

    private func printTable(_ scores: [TokenScore], _ model: Model) {
        var table = TextTable(["id", "token", "log-probability"], rightAligned: [0, 2])
        for score in scores {
            let text =
                model.tokenizer.map {
                    String(decoding: (try? $0.bytes(of: score.id)) ?? [], as: UTF8.self).debugDescription
                } ?? ""
            table.add(["\(score.id)", text, score.logProbability.map { Double($0).rounded(to: 4) } ?? "–"])
        }
        StandardOutput.write(table.text)
        let known = scores.compactMap(\.logProbability)
        guard !known.isEmpty else { return }
        let mean = known.reduce(0.0) { $0 + Double($1) } / Double(known.count)
        StandardOutput.print("mean log-probability \(mean.rounded(to: 4)) over \(known.count) tokens")
    }
}
