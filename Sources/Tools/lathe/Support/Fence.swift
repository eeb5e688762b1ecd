import LatheFormat
import LatheWorkbench

/// Runs this very command again inside a hard limit of memory, and says what the system counted.
///
/// This process stays outside as the keeper: it has loaded nothing, passes signals on, and removes the control group at
/// the end. If it is killed, so is the one inside.
enum Fence {
    /// Tells the process inside that it is: `group`, or `data:BYTES` for one that must limit itself.
    static let variable = "LATHE_FENCE"
    /// No `lathe` process lives in less; and so little could end the keeper, which is inside for a moment.
    static let minimumBudget = 16_000_000

    static var isInside: Bool { Commission.current.fence != nil }

    /// What a process that begins inside must do itself.
    static func settleIn() throws(LatheError) {
        guard let fence = Commission.current.fence, fence.hasPrefix("data:"), let bytes = Int(fence.dropFirst(5))
        else { return }
        try SupervisedProcess.limitData(to: bytes)
    }

    static func runInside(budget: Int, filesRead: [String], filesMapped: [String]) throws(LatheError) -> Never {
        guard budget >= minimumBudget else {
            throw LatheError(
                .budget,
                "A fence of \(Bytes.text(budget)) is too narrow for any process of this program; allow "
                    + "\(Bytes.text(minimumBudget)) at least.")
        }
        for path in filesRead.flatMap(regularFiles) { Files.dropPageCache(of: path) }
        let group: FenceGroup
        do throws(LatheError) {
            group = try FenceGroup.create(
                limit: budget, process: SupervisedProcess.ownID, isAlive: SupervisedProcess.isAlive)
        } catch {
            try limitData(budget: budget, filesMapped: filesMapped, because: error)
        }
        try run(in: group)
    }

    // MARK: By a control group

    private static func run(in group: FenceGroup) throws(LatheError) -> Never {
        let child: SupervisedProcess
        do throws(LatheError) {
            // What a process starts begins where it is: so nothing of the child's is charged elsewhere.
            try group.enter()
            child = try SupervisedProcess(
                Array(CommandLine.arguments.dropFirst()), environment: [(variable, "group")],
                passing: Commission.current.phases)
            try group.leave()
        } catch {
            try? group.leave()
            end(group)
            throw error
        }
        let ending = child.waitUntilEnd()
        // What the child has started and left behind.
        let report = group.report
        end(group)
        tell(report)
        if report.outOfMemoryKills > 0, ending.code != 0 {
            fail("The system ended it: it needed more than its fence of \(Bytes.text(report.limit)).")
        }
        SupervisedProcess.exit(as: ending)
    }

    /// Ends what is left in the group, and removes it. A process takes a moment to go.
    private static func end(_ group: FenceGroup) {
        for _ in 0..<200 {
            if group.remove() { return }
            for member in group.members where member != SupervisedProcess.ownID { SupervisedProcess.kill(member) }
            SupervisedProcess.sleep(milliseconds: 10)
        }
        StandardError.warn("the control group \(quoted(group.folder)) could not be removed.")
    }

    // MARK: By a limit of the process

    private static func limitData(
        budget: Int, filesMapped: [String], because reason: LatheError
    ) throws(LatheError) -> Never {
        let limit = try dataLimit(budget: budget, filesMapped: filesMapped)
        StandardError.warn(
            "no control group can be made, so RLIMIT_DATA keeps the budget, less \(Bytes.text(budget - limit)) of "
                + "mapped files. \(reason.message)")
        let child = try SupervisedProcess(
            Array(CommandLine.arguments.dropFirst()), environment: [(variable, "data:\(limit)")],
            passing: Commission.current.phases)
        let ending = child.waitUntilEnd()
        tell(
            FenceReport(
                means: "RLIMIT_DATA", limit: limit, peak: ending.peakResidentBytes, timesAtLimit: nil,
                outOfMemoryKills: 0))
        // Code of ours turns a refused allocation into an error; what lies below ends the process by a trap.
        if let signal = ending.signal, trapSignals.contains(signal) {
            fail("It was ended by signal \(signal): it asked for more memory than its fence of \(Bytes.text(limit)) has.")
        }
        SupervisedProcess.exit(as: ending)
    }

    /// SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGSEGV on Linux.
    private static let trapSignals: Set<Int32> = [4, 5, 6, 7, 11]

    /// Pages of a mapped file are no data, but take memory all the same.
    static func dataLimit(budget: Int, filesMapped: [String]) throws(LatheError) -> Int {
        let mapped = filesMapped.reduce(0) { sum, path in
            sum + ((try? InputFile.open(path: path).byteCount) ?? 0)
        }
        guard budget - mapped >= minimumBudget else {
            throw LatheError(
                .budget,
                "A fence of \(Bytes.text(budget)) leaves \(Bytes.text(max(0, budget - mapped))) beside mapped files of "
                    + "\(Bytes.text(mapped)); allow \(Bytes.text(mapped + minimumBudget)) at least.")
        }
        return budget - mapped
    }

    // MARK: What became of it

    private static func tell(_ report: FenceReport) {
        StandardError.print(report.sentence)
        if let pipe = Commission.current.phases { PhasePipe.tell("fence \(report.json.serialized())", on: pipe) }
    }

    private static func fail(_ sentence: String) -> Never {
        StandardError.print("lathe: \(sentence)")
        Interruption.exitProcess(1)
    }

    /// The file at `path`, or all files of the folder there.
    private static func regularFiles(_ path: String) -> [String] {
        if Files.isRegular(path) { return [path] }
        return ((try? Files.names(in: path)) ?? []).map { "\(path)/\($0)" }.filter(Files.isRegular)
    }
}
