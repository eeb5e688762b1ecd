import ArgumentParser
import LatheFormat
import LatheWorkbench

/// What the process may take, and whether the system keeps it to that.
struct FenceArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The most memory that this process may take.", valueName: "700MB"))
    var memoryBudget: ByteCount?

    @Flag(
        help: ArgumentHelp(
            "Make the budget a hard limit of the system's: of a control group, or where none can be made of RLIMIT_DATA."))
    var fence = false

    func validate() throws {
        if fence && memoryBudget == nil {
            throw ValidationError("--fence keeps a budget: say which, as --memory-budget 700MB.")
        }
    }
}

/// A command that may be fenced, which then begins anew inside before anything is loaded.
protocol FencedCommand {
    var memory: FenceArguments { get }
    /// Files and folders that the command will read. The system forgets its copies of them first, because it does not
    /// charge for reading what it holds already.
    var filesRead: [String] { get }
    /// Those of them that it will map: pages of theirs are no data to RLIMIT_DATA.
    var filesMapped: [String] { get }
}

extension FencedCommand {
    var filesMapped: [String] { [] }

    /// Runs the command again inside the fence, and ends as it ended.
    func runInsideFence() throws(LatheError) -> Never {
        try Fence.runInside(budget: memory.memoryBudget!.bytes, filesRead: filesRead, filesMapped: filesMapped)
    }
}
