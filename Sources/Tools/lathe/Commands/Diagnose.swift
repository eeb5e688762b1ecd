import ArgumentParser
import LatheFormat
import LatheWorkbench

struct Diagnose: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what each weight format would do to each layer, so that you see which to keep higher.",
        discussion: """
            Runs the checkpoint in float32 on a text (with OpenBLAS) and compares each linear layer's output with what it \
            would be with rounded weights, and with 8-bit activations too. Errors are relative: 0.01 means that the \
            difference is a hundredth of the output, in the root of the mean square.
            """)

    @Option(help: ArgumentHelp("The checkpoint folder.", valueName: "folder"), completion: .directory)
    var checkpoint: String
    @Option(help: ArgumentHelp("A text like those that the model will see.", valueName: "file"), completion: .file())
    var text: String
    @Option(help: ArgumentHelp("About how many tokens of the text to look at, evenly spread.", valueName: "n"))
    var tokens = 2048
    @Option(help: ArgumentHelp("Threads. (default: what affinity, CPU quota and cores allow)", valueName: "n"))
    var threads: Int?
    @Flag(help: "Print one JSON object instead of tables.")
    var json = false

    func run() async throws {
        let clock = ContinuousClock()
        let start = clock.now
        let diagnosis = try Diagnosis(checkpoint: checkpoint, text: text, tokens: tokens, threads: threads) {
            ProgressBar.show(fraction: $0, label: $1)
        }
        let seconds = (clock.now - start).seconds
        if json { return printJSON(diagnosis, seconds) }
        for index in diagnosis.formats.indices { printTable(diagnosis, index) }
        StandardOutput.print(
            """
            \(diagnosis.tokenCount) tokens in \(diagnosis.windowCount) windows of \(diagnosis.windowLength), \
            \(seconds.rounded(to: 1)) s\
            \(ProcessMemory.peakResidentBytes().map { ", peak memory \(Bytes.text($0))" } ?? "").
            """)
    }

    private func printTable(_ diagnosis: Diagnosis, _ index: Int) {
        let format = diagnosis.formats[index]
        let standouts = diagnosis.standouts(format: index)
        let worst = diagnosis.worst(format: index).first?.name
        var table = TextTable(
            ["layer", "shape", "weights", "output", "with 8-bit activations", "of those alone", "bytes", ""],
            rightAligned: [2, 3, 4, 5, 6])
        for layer in diagnosis.layers {
            let error = layer.errors[index]
            let isStandout = standouts.contains { $0.name == layer.name }
            table.add([
                layer.name + (layer.isHead ? " (head)" : ""), layer.shape.map(String.init).joined(separator: " × "),
                error.weights.rounded(to: 5), error.outputOfWeights.rounded(to: 5), error.output.rounded(to: 5),
                layer.activations.rounded(to: 5), Bytes.text(error.bytes),
                layer.name == worst ? "◄ worst" : isStandout ? "◄" : "",
            ])
        }
        StandardOutput.print("Relative errors in \(format):")
        StandardOutput.write(table.text)
        let higher = index == 0 ? "f32" : diagnosis.formats[0]
        func overrides(_ layers: some Collection<Diagnosis.Layer>) -> String {
            layers.map { "--override '\(Self.pattern($0))=\(higher)'" }.joined(separator: " ")
        }
        StandardOutput.print(
            standouts.isEmpty
                ? """
                No layer's output has more than \(Diagnosis.standoutFactor) times the median error; should you want to \
                keep some higher, begin with \(overrides(diagnosis.worst(format: index).prefix(3)))

                """
                : "Keep higher: \(overrides(standouts))\n")
    }

    /// What an override calls the layer.
    private static func pattern(_ layer: Diagnosis.Layer) -> String {
        layer.name.hasSuffix(".weight") ? String(layer.name.dropLast(".weight".count)) : layer.name
    }

    private func printJSON(_ diagnosis: Diagnosis, _ seconds: Double) {
        StandardOutput.print([
            "checkpoint": .string(checkpoint),
            "tokens": .number(diagnosis.tokenCount),
            "windows": .number(diagnosis.windowCount),
            "seconds": .number(seconds),
            "peak_resident_bytes": ProcessMemory.peakResidentBytes().map(JSON.number) ?? .null,
            "layers": .array(
                diagnosis.layers.map { layer in
                    [
                        "name": .string(layer.name), "shape": .array(layer.shape.map(JSON.number)),
                        "head": .bool(layer.isHead), "activation_error": .number(layer.activations),
                        "formats": .array(
                            layer.errors.map { error in
                                [
                                    "format": .string(error.format), "size_bytes": .number(error.bytes),
                                    "weight_error": .number(error.weights),
                                    "weight_output_error": .number(error.outputOfWeights),
                                    "output_error": .number(error.output),
                                ]
                            }),
                    ]
                }),
            "keep_higher": .array(
                diagnosis.formats.indices.map { index in
                    [
                        "format": .string(diagnosis.formats[index]),
                        "layers": .array(diagnosis.standouts(format: index).map { .string($0.name) }),
                    ]
                }),
        ])
    }
}
