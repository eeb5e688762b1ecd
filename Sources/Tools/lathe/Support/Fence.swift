import LatheFormat
import LatheWorkbench

/// Runs this very command again inside a hard limit of memory, and says what the system counted.
///
/// This process stays outside as the keeper: it has loaded nothing, passes signals on, and removes the control group at
/// the end. If it is killed, so is the one inside.
struct Fence {
    enum Means: String, CaseIterable { case auto, cgroup, rlimit }

    let budget: Int
    let means: Means
    let filesRead: [String]
    let filesMapped: [String]

    /// Tells the process inside that it is: `group`, or `data:BYTES` for one that must limit itself.
    static let variable = "LATHE_FENCE"
    /// No `lathe` process lives in less; and so little could end the keeper, which is inside for a moment.
    static let minimumBudget = 16_000_000
    /// RLIMIT_DATA counts all that is reserved, touched or not. The system starts threads when work comes, and waits for
    /// ever where a stack cannot be had: there must be room for them, and they must be small (usual are 8 MB).
    static let minimumData = 32_000_000
    static let stackByteCount = 2 << 20

    static var isInside: Bool { Commission.current.fence != nil }

    /// What a process that begins inside must do itself.
    static func settleIn() throws(LatheError) {
        guard let fence = Commission.current.fence, fence.hasPrefix("data:"), let bytes = Int(fence.dropFirst(5))
        else { return }
        try SupervisedProcess.limitData(to: bytes)
    }

    func runInside() throws(LatheError) -> Never {
        guard budget >= Self.minimumBudget else {
            throw LatheError(
                .budget,
                "A fence of \(Bytes.text(budget)) is too narrow for any process of this program; allow "
                    + "\(Bytes.text(Self.minimumBudget)) at least.")
        }
        for path in filesRead.flatMap(Self.regularFiles) { Files.dropPageCache(of: path) }
        if means == .rlimit { try limitData(because: nil) }
        let group: FenceGroup
        do throws(LatheError) {
            group = try FenceGroup.create(
                limit: budget, process: SupervisedProcess.ownID, isAlive: SupervisedProcess.isAlive)
        } catch {
            guard means == .auto else {
                throw LatheError(error.code, "No control group can be made: \(error.message)")
            }
            try limitData(because: error)
        }
        try run(in: group)
    }

    // MARK: By a control group

    private func run(in group: FenceGroup) throws(LatheError) -> Never {
        let child: SupervisedProcess
        do throws(LatheError) {
            // What a process starts begins where it is: so nothing of the child's is charged elsewhere.
            try group.enter()
            child = try SupervisedProcess(
                Array(CommandLine.arguments.dropFirst()), environment: [(Self.variable, "group")],
                passing: Commission.current.phases)
            try group.leave()
        } catch {
            try? group.leave()
            Self.end(group)
            throw error
        }
        let ending = child.waitUntilEnd()
        // What the child has started and left behind.
        let report = group.report
        Self.end(group)
        Self.tell(report)
        if report.outOfMemoryKills > 0, ending.code != 0 {
            Self.fail("The system ended it: it needed more than its fence of \(Bytes.text(report.limit)).")
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

    private func limitData(because reason: LatheError?) throws(LatheError) -> Never {
        let limit = try Self.dataLimit(budget: budget, filesMapped: filesMapped)
        let less = budget > limit ? ", less \(Bytes.text(budget - limit)) of mapped files" : ""
        let why = reason.map { " no control group can be made (\($0.message)), so" } ?? ""
        StandardError.print("lathe: note:\(why) RLIMIT_DATA keeps the budget\(less).")
        SupervisedProcess.limitStacks(to: Self.stackByteCount)
        let child = try SupervisedProcess(
            Array(CommandLine.arguments.dropFirst()), environment: [(Self.variable, "data:\(limit)")],
            passing: Commission.current.phases)
        let ending = child.waitUntilEnd()
        Self.tell(
            FenceReport(
                means: "RLIMIT_DATA", limit: limit, peak: ending.peakResidentBytes, timesAtLimit: nil,
                outOfMemoryKills: 0))
        // Code of ours turns a refused allocation into an error; what lies below ends the process by a trap.
        if let signal = ending.signal, Self.trapSignals.contains(signal) {
            Self.fail(
                "It was ended by signal \(signal): it asked for more memory than its fence of \(Bytes.text(limit)) has."
            )
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
        guard budget - mapped >= minimumData else {
            throw LatheError(
                .budget,
                "A fence of \(Bytes.text(budget)) by RLIMIT_DATA leaves \(Bytes.text(max(0, budget - mapped))) beside "
                    + "mapped files of \(Bytes.text(mapped)); allow \(Bytes.text(mapped + minimumData)) at least.")
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
