import ArgumentParser

@main
struct LatheCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "lathe", abstract: "Turns a language model down until it fits, and serves it from the CPU.")
}
