public import ArgumentParser
import Lathe
public import LatheCompiler
import LatheFormat
import LatheWorkbench

struct Prune: AsyncParsableCommand, FencedCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make weights of a checkpoint zero, and write an ordinary checkpoint again.",
        discussion: """
            The output is a Hugging Face folder like the input: fine-tune it in PyTorch, prune it again, or convert it with \
            `lathe quantize`. Weights of linear layers are pruned; embeddings and head are not unless asked for.

            A pattern for --exclude is a name or a part of one between dots, as `c_attn`, `h.0` or `h.*.mlp`; `lathe \
            prune` names all matrices when a pattern matches none.
            """)

    @Argument(help: "The checkpoint folder.", completion: .directory)
    var checkpoint: String
    @Option(
        name: .shortAndLong, help: ArgumentHelp("The folder to write; new, or empty.", valueName: "folder"),
        completion: .directory)
    var output: String
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("The share of zeros, from 0 up to but not including 1.", valueName: "share"))
    var sparsity: Double?
    @Option(
        help: ArgumentHelp(
            "Whose weights compete: of each output (row), of each matrix (layer), or all. (default: layer; row for wanda)",
            valueName: "global|layer|row"))
    var scope: PruningOptions.Scope?
    @Option(
        help: ArgumentHelp(
            "Where zeros may stand: anywhere, or N weights kept of each M.", valueName: "unstructured|N:M"))
    var pattern: String = "unstructured"
    @Option(
        help: ArgumentHelp(
            "How weights are compared: |w|, or |w| times the norm of its input.", valueName: "magnitude|wanda"))
    var criterion: PruningOptions.Criterion = .magnitude
    @Option(help: ArgumentHelp("A text for wanda to look at.", valueName: "path"), completion: .file())
    var calibration: String?
    @Option(
        help: ArgumentHelp("Tokens of the text, at most, in windows of the context's length.", valueName: "n"))
    var calibrationTokens: Int = CalibrationLoading.defaultPruningTokens
    @Option(help: ArgumentHelp("Leave the matrices of that name alone; may be repeated.", valueName: "pattern"))
    var exclude: [String] = []
    @Flag(help: "Prune embeddings and head too.")
    var includeEmbeddings = false
    @Flag(help: "Give both halves of each int4 block as many zeros each, so that int4 stores them without waste.")
    var balancePairs = false
    @Option(
        help: ArgumentHelp(
            "Threads that compute for wanda. (default: what affinity, CPU quota and cores allow)", valueName: "n"))
    var threads: Int?
    @OptionGroup(title: "Memory") var memory: FenceArguments
    @Flag(help: "Print one JSON object instead of the table.")
    var json = false

    var filesRead: [String] { [checkpoint] }

    func validate() throws {
        if criterion == .wanda && calibration == nil {
            throw ValidationError("--criterion wanda looks at a text: add --calibration TEXT.")
        }
        if criterion != .wanda && calibration != nil {
            throw ValidationError("--calibration is for --criterion wanda: add that, or leave the text out.")
        }
        if sparsity == nil && pattern == "unstructured" {
            throw ValidationError("Say how many zeros: --sparsity 0.5, or --pattern 2:4.")
        }
    }

    func run() async throws {
        PhaseMarks.mark("read")
        let clock = ContinuousClock()
        let start = clock.now
        let options = PruningOptions(
            sparsity: sparsity, scope: scope, criterion: criterion, pattern: try .init(named: pattern),
            excluded: exclude, includesEmbeddings: includeEmbeddings, balancesPairs: balancePairs)
        var pruner = Pruner(options)
        pruner.memoryBudget = memory.memoryBudget?.bytes
        // Before a text is read and a model run for nothing.
        try pruner.check(checkpoint: checkpoint, output: output)
        let windows = try calibration.map { text throws(LatheError) in
            try CalibrationLoading.windows(
                checkpoint: checkpoint, text: try readFile(text), name: text, tokens: calibrationTokens)
        }
        let report = try pruner.prune(
            checkpoint: checkpoint, output: output, calibration: windows ?? [],
            threads: try ThreadCount(requested: threads).count, progress: ConversionPhases().show)
        let seconds = (clock.now - start).seconds
        for warning in report.warnings { StandardError.warn(warning) }
        if json { printJSON(report, seconds) } else { printTable(report, seconds) }
    }

    private func printJSON(_ report: PruningReport, _ seconds: Double) {
        StandardOutput.print([
            "output": .string(output), "sparsity": .number(report.sparsity),
            "criterion": .string(criterion.rawValue), "scope": .string(report.scope), "pattern": .string(pattern),
            "seconds": .number(seconds),
            "peak_resident_bytes": ProcessMemory.peakResidentBytes().map(JSON.number) ?? .null,
            "planned_bytes": .number(report.memory.planned),
            "tensors": .array(
                report.tensors.map { tensor in
                    [
                        "name": .string(tensor.name), "shape": .array(tensor.shape.map(JSON.number)),
                        "sparsity": .number(tensor.sparsity), "zeros": .number(tensor.zeros),
                        "count": .number(tensor.count), "zeros_before": .number(tensor.zerosBefore),
                        "balance_loss": tensor.balanceLoss.map(JSON.number) ?? .null,
                    ]
                }),
            "excluded": .array(report.excluded.map { .string($0) }),
        ])
    }

    private func printTable(_ report: PruningReport, _ seconds: Double) {
        func percent(_ share: Double) -> String { "\((share * 100).rounded(to: 2)) %" }
        var header = ["tensor", "shape", "zeros before", "after"]
        if balancePairs { header.append("balance lost") }
        var table = TextTable(header, rightAligned: [2, 3, 4])
        for tensor in report.tensors {
            var row = [
                tensor.name, tensor.shape.map(String.init).joined(separator: " × "), percent(tensor.sparsityBefore),
                percent(tensor.sparsity),
            ]
            if balancePairs { row.append(percent(tensor.balanceLoss ?? 0)) }
            table.add(row)
        }
        StandardOutput.write(table.text)
        if !report.excluded.isEmpty {
            StandardOutput.print("Left as they are: \(printable(report.excluded.joined(separator: ", "))).")
        }
        StandardOutput.print(
            """
            \(output): \(percent(report.sparsity)) of \(report.count) weights are zero, \
            \(percent(report.sparsityBefore)) were before; in \(seconds.rounded(to: 2)) s\
            \(ProcessMemory.peakResidentBytes().map { ", peak memory \(Bytes.text($0))" } ?? "") \
            (planned: \(Bytes.text(report.memory.planned))).
            """)
    }
}

extension PruningOptions.Scope: ExpressibleByArgument {}
extension PruningOptions.Criterion: ExpressibleByArgument {}
