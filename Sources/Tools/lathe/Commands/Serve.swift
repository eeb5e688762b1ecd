import ArgumentParser
import LatheFormat

/// Hands over to the program that serves; it has flags of its own.
struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serve a model over HTTP.",
        discussion: "Runs the program lathe-serve, which stands beside this one; `lathe-serve --help` lists its flags.")

    @Argument(parsing: .captureForPassthrough, help: ArgumentHelp("What lathe-serve is given.", valueName: "argument"))
    var arguments: [String] = []

    func run() throws {
        throw ChildProcess.become("lathe-serve", arguments)
    }
}
