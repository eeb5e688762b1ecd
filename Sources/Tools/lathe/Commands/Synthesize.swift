import ArgumentParser
import LatheCompiler
import LatheFormat

struct Synthesize: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write a checkpoint of random weights, for benchmarks and limits.")

    enum ElementType: String, ExpressibleByArgument, CaseIterable { case f32, f16 }

    @Argument(
        help: ArgumentHelp(
            "\(SyntheticCheckpoint.presetNames.joined(separator: ", ")), or the path of a config.json.",
            valueName: "model"))
    var name: String
    @Option(
        name: .shortAndLong, help: ArgumentHelp("The folder to write.", valueName: "folder"), completion: .directory)
    var output: String
    @Option(help: ArgumentHelp("Element type of the weights.", valueName: "type"))
    var dtype: ElementType = .f32
    @Option(help: ArgumentHelp("Same seed, same weights.", valueName: "n"))
    var seed: UInt64 = 0
    @Option(help: ArgumentHelp("Copy the tokenizer of this folder.", valueName: "folder"), completion: .directory)
    var tokenizer: String?

    @Flag(help: "Print one JSON object.")
    var json = false

    func run() async throws {
        let checkpoint = try SyntheticCheckpoint(named: name, isHalfPrecision: dtype == .f16, seed: seed)
        try checkpoint.write(to: output, tokenizerFolder: tokenizer, progress: ProgressBar.show)
        if json {
            return StandardOutput.print([
                "output": .string(output), "model": .string(name), "dtype": .string(dtype.rawValue),
                "seed": .number(seed),
            ])
        }
        StandardOutput.print("\(output): a \(name) of random weights in \(dtype.rawValue), seed \(seed).")
    }
}
