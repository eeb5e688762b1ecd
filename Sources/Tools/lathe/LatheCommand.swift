import ArgumentParser
import LatheFormat

/// The command line. It parses, calls the libraries, prints; nothing is computed here.
struct LatheCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lathe",
        abstract: "Turns a small language model down until it fits, and runs it fast on the CPU.",
        discussion: """
            Start with `lathe generate "Once upon a time"`, or convert a checkpoint of your own: \
            `lathe quantize FOLDER -o model.lathe`.

            Exit codes: 0 done, 1 failed (one sentence on stderr), 2 a plan or budget says no, 64 usage, 130 interrupted.
            """,
        version: latheVersion,
        subcommands: [
            Generate.self, BatchCommand.self, Quantize.self, Prune.self, Evaluate.self, Diagnose.self,
            SweepCommand.self, FitCommand.self,
            PlanCommand.self, Score.self, Tokenize.self, Inspect.self, Synthesize.self, Bench.self, ProfileCommand.self,
            Serve.self,
        ])
}

@main
enum Main {
    static func main() async {
        Interruption.install()
        do {
            try ProcessArguments.requireReadable()
            try Fence.settleIn()
            try ProcessArguments.requireUTF8()
            var command = try LatheCommand.parseAsRoot()
            try prepare(command)
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch let error as LatheError {
            StandardError.print("lathe: \(printable(error.message))")
            Interruption.exitProcess(error.code == .budget ? 2 : 1)
        } catch {
            LatheCommand.exit(withError: error)
        }
    }

    /// Everything that comes before the command itself: it may have to begin anew within a fence.
    private static func prepare(_ command: any ParsableCommand) throws(LatheError) {
        let fenced = command as? any FencedCommand
        if let fenced, fenced.memory.fence, !Fence.isInside { try fenced.runInsideFence() }
        PhaseReporting.begin(budget: fenced?.memory.memoryBudget)
    }
}
