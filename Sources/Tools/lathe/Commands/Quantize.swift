import ArgumentParser
import LatheCompiler
import LatheFormat
import LatheWorkbench

struct Quantize: AsyncParsableCommand, FencedCommand {
    static let configuration = CommandConfiguration(
        abstract: "Convert a checkpoint folder into one .lathe file.",
        discussion: "Reads config.json, model.safetensors (or its shards) and the tokenizer. No Python is involved.")

    @Argument(help: "The checkpoint folder.", completion: .directory)
    var checkpoint: String
    @Option(
        name: .shortAndLong, help: ArgumentHelp("The file to write.", valueName: "file.lathe"),
        completion: .file(extensions: ["lathe"]))
    var output: String
    @OptionGroup(title: "Recipe") var recipe: RecipeArguments
    @OptionGroup(title: "Memory") var memory: FenceArguments
    @Option(
        help: ArgumentHelp("Threads that encode. (default: what affinity, CPU quota and cores allow)", valueName: "n"))
    var threads: Int?
    @Flag(help: "Print one JSON object instead of the table.")
    var json = false

    var filesRead: [String] { [checkpoint] }

    func run() async throws {
        PhaseMarks.mark("read")
        let clock = ContinuousClock()
        let start = clock.now
        var compiler = try recipe.makeCompiler(checkpoint: checkpoint, threads: threads)
        compiler.memoryBudget = memory.memoryBudget?.bytes
        let report = try compiler.compile(checkpoint: checkpoint, output: output, progress: ConversionPhases().show)
        MemoryReporting.tell(report.memory)
        let seconds = (clock.now - start).seconds
        for warning in report.warnings { StandardError.warn(warning) }
        if json { printJSON(report, seconds) } else { printTable(report, seconds) }
    }

    private func printJSON(_ report: CompilationReport, _ seconds: Double) {
        StandardOutput.print([
            "output": .string(output),
            "bytes_before": .number(report.bytesBefore),
            "bytes_after": .number(report.bytesAfter),
            "seconds": .number(seconds),
            "peak_resident_bytes": ProcessMemory.peakResidentBytes().map(JSON.number) ?? .null,
            "planned_bytes": .number(report.memory.planned),
            "tensors": .array(
                report.tensors.map { tensor in
                    [
                        "name": .string(tensor.name), "shape": .array(tensor.shape.map(JSON.number)),
                        "format": .string(tensor.format), "bytes_before": .number(tensor.bytesBefore),
                        "bytes_after": .number(tensor.bytesAfter), "sparsity": .number(tensor.sparsity),
                        "relative_error": .number(tensor.relativeError),
                    ]
                }),
        ])
    }

    private func printTable(_ report: CompilationReport, _ seconds: Double) {
        var table = TextTable(
            ["tensor", "shape", "format", "before", "after", "zeros", "relative error"], rightAligned: [3, 4, 5, 6])
        for tensor in report.tensors where tensor.shape.count == 2 {
            table.add([
                tensor.name, tensor.shape.map(String.init).joined(separator: " × "), tensor.format,
                Bytes.text(tensor.bytesBefore), Bytes.text(tensor.bytesAfter), Percent.text(tensor.sparsity),
                tensor.relativeError == 0 ? "exact" : tensor.relativeError.rounded(to: 5),
            ])
        }
        StandardOutput.write(table.text)
        let vectors = report.tensors.filter { $0.shape.count == 1 }
        StandardOutput.print(
            "and \(vectors.count) vectors in f32, \(Bytes.text(vectors.reduce(0) { $0 + $1.bytesAfter })).")
        if let worst = report.tensors.max(by: { $0.relativeError < $1.relativeError }), worst.relativeError > 0 {
            StandardOutput.print("Worst relative error: \(worst.relativeError.rounded(to: 5)) in \(worst.name).")
        }
        let ratio = Double(report.bytesBefore) / Double(max(1, report.bytesAfter))
        StandardOutput.print(
            """
            \(output): \(Bytes.text(report.bytesBefore)) → \(Bytes.text(report.bytesAfter)) (\(ratio.rounded(to: 2))×) \
            in \(seconds.rounded(to: 2)) s\
            \(ProcessMemory.peakResidentBytes().map { ", peak memory \(Bytes.text($0))" } ?? "") \
            (planned: \(Bytes.text(report.memory.planned))).
            """)
    }
}
