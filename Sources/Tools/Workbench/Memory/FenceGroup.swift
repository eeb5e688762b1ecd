package import LatheFormat

/// A control group with a hard limit of memory, for one process and those that it starts.
///
/// It lies below the group that this process is in, so that every limit which holds already goes on to hold.
package struct FenceGroup: Sendable {
    package let version: Int
    package let folder: String
    /// Bytes, as the kernel took them: whole pages, at most what was asked.
    package let limit: Int
    /// The group that this process came from and returns to.
    private let home: String
    /// Version 2: where this process had to move, as no group may have both members and limited groups below it.
    private var refuge: String?
    private let files: KernelFiles
    private let process: Int

    static let namePrefix = "lathe-fence-"
    /// Version 1 asks the counter of memory and swap first, and counts no refusal of its: with the same limit for both,
    /// `memory.failcnt` stays 0 whatever happens. So that one is wider by more than the kernel ever charges at once (a
    /// huge page), which is also the most that could be swapped.
    private static let swapMargin = 4 << 20

    /// - Parameters:
    ///   - groups: those of this process for memory.
    ///   - process: the id of this process.
    ///   - isAlive: whether a process of that id exists. Groups of those that were killed are removed.
    /// - Throws: `io`, with the reason why no group can be made.
    package static func create(
        limit: Int, in groups: [ControlGroup] = ControlGroup.containing(controller: "memory"), process: Int,
        isAlive: (Int) -> Bool, files: KernelFiles = .real
    ) throws(LatheError) -> FenceGroup {
        var reason = LatheError(.io, "The system has no control groups for memory.")
        // Version 2 first, where memory is its business.
        for group in groups.sorted(by: { $0.version > $1.version }) {
            do throws(LatheError) {
                return try FenceGroup(limit, group, process, isAlive, files)
            } catch {
                reason = error
            }
        }
        throw reason
    }

    private init(
        _ limit: Int, _ group: ControlGroup, _ process: Int, _ isAlive: (Int) -> Bool, _ files: KernelFiles
    ) throws(LatheError) {
        version = group.version
        home = group.folders[0]
        folder = "\(home)/\(Self.namePrefix)\(process)"
        self.files = files
        self.process = process
        Self.removeAbandoned(in: home, isAlive, files)
        if version == 2 { refuge = try Self.delegateMemory(home, process, files) }
        do throws(LatheError) {
            try files.makeFolder(folder)
            try files.write("\(limit)", "\(folder)/\(MemoryLimits.limitFile(version: version))")
            if version == 2 {
                // Absent where the kernel knows no swap.
                try? files.write("0", "\(folder)/memory.swap.max")
            } else {
                try? files.write("0", "\(folder)/memory.swappiness")
                try? files.write("\(limit + Self.swapMargin)", "\(folder)/memory.memsw.limit_in_bytes")
            }
            let taken = files.read("\(folder)/\(MemoryLimits.limitFile(version: version))").flatMap(MemoryLimits.parseLimit)
            guard let taken, taken <= limit else {
                throw LatheError(.io, "\(quoted(folder)) did not take a limit of \(limit) bytes.")
            }
            self.limit = taken
        } catch {
            files.removeFolder(folder)
            Self.undelegate(home, refuge, process, files)
            throw error
        }
    }

    // MARK: Members

    /// Moves this process in: what it starts from now on begins inside.
    package func enter() throws(LatheError) { try files.write("\(process)", "\(folder)/cgroup.procs") }

    /// Moves this process out again.
    package func leave() throws(LatheError) { try files.write("\(process)", "\(refuge ?? home)/cgroup.procs") }

    package var members: [Int] {
        (files.read("\(folder)/cgroup.procs") ?? "").split(separator: "\n").compactMap { Int($0) }
    }

    /// Whether the group is gone; one with members stays.
    package func remove() -> Bool {
        files.removeFolder(folder)
        guard files.read("\(folder)/cgroup.procs") == nil else { return false }
        Self.undelegate(home, refuge, process, files)
        return true
    }

    private static func removeAbandoned(in home: String, _ isAlive: (Int) -> Bool, _ files: KernelFiles) {
        for name in files.names(home) where name.hasPrefix(namePrefix) {
            guard let owner = Int(name.dropFirst(namePrefix.count)), !isAlive(owner) else { continue }
            files.removeFolder("\(home)/\(name)")
        }
    }

    // MARK: Version 2

    /// Lets groups below `home` limit memory. The kernel refuses that where `home` has members itself; if this process is
    /// the only one, it moves into a group of its own.
    ///
    /// - Returns: that group.
    private static func delegateMemory(
        _ home: String, _ process: Int, _ files: KernelFiles
    ) throws(LatheError) -> String? {
        func lists(_ file: String) -> Bool {
            (files.read("\(home)/\(file)") ?? "").split(whereSeparator: \.isWhitespace).contains("memory")
        }
        guard lists("cgroup.controllers") else {
            throw LatheError(.io, "The control group \(quoted(home)) has no say about memory.")
        }
        if lists("cgroup.subtree_control") { return nil }
        do throws(LatheError) {
            try files.write("+memory", "\(home)/cgroup.subtree_control")
            return nil
        } catch {
            let members = (files.read("\(home)/cgroup.procs") ?? "").split(separator: "\n")
            guard members == ["\(process)"] else { throw error }
        }
        let refuge = "\(home)/lathe-keeper-\(process)"
        do throws(LatheError) {
            try files.makeFolder(refuge)
            try files.write("\(process)", "\(refuge)/cgroup.procs")
            try files.write("+memory", "\(home)/cgroup.subtree_control")
            return refuge
        } catch {
            undelegate(home, refuge, process, files)
            throw error
        }
    }

    private static func undelegate(_ home: String, _ refuge: String?, _ process: Int, _ files: KernelFiles) {
        guard let refuge else { return }
        try? files.write("-memory", "\(home)/cgroup.subtree_control")
        try? files.write("\(process)", "\(home)/cgroup.procs")
        files.removeFolder(refuge)
    }

    // MARK: What the kernel counted

    package var report: FenceReport {
        func number(_ file: String) -> Int? {
            files.read("\(folder)/\(file)").flatMap { Int($0.filter { !$0.isWhitespace }) }
        }
        func field(_ key: String, of file: String) -> Int? {
            let lines = (files.read("\(folder)/\(file)") ?? "").split(separator: "\n")
            return lines.first { $0.hasPrefix(key + " ") }.flatMap { Int($0.dropFirst(key.count + 1)) }
        }
        if version == 2 {
            return FenceReport(
                means: "cgroup v2", limit: limit, peak: number("memory.peak"),
                timesAtLimit: field("max", of: "memory.events"),
                outOfMemoryKills: field("oom_kill", of: "memory.events") ?? 0)
        }
        return FenceReport(
            means: "cgroup v1", limit: limit, peak: number("memory.max_usage_in_bytes"),
            timesAtLimit: number("memory.failcnt"),
            outOfMemoryKills: field("oom_kill", of: "memory.oom_control") ?? 0)
    }
}

/// What became of a process within its fence.
package struct FenceReport: Hashable, Sendable {
    /// What kept the limit: `cgroup v1`, `cgroup v2`, `RLIMIT_DATA`.
    package let means: String
    package let limit: Int
    /// Of control groups all that the kernel charged, page cache too; of RLIMIT_DATA what was resident.
    package let peak: Int?
    /// How often the kernel had to take pages back, or refuse; nil where it does not count.
    package let timesAtLimit: Int?
    package let outOfMemoryKills: Int

    package init(means: String, limit: Int, peak: Int?, timesAtLimit: Int?, outOfMemoryKills: Int) {
        (self.means, self.limit, self.peak) = (means, limit, peak)
        (self.timesAtLimit, self.outOfMemoryKills) = (timesAtLimit, outOfMemoryKills)
    }

    package var sentence: String {
        var text = "fence: \(means), limit \(Bytes.text(limit))"
        if let peak { text += ", peak \(Bytes.text(peak))" }
        if let timesAtLimit { text += ", \(timesAtLimit) time\(timesAtLimit == 1 ? "" : "s") at the limit" }
        return text
    }

    package var json: JSON {
        [
            "means": .string(means), "limit_bytes": .number(limit), "peak_bytes": peak.map(JSON.number) ?? .null,
            "times_at_limit": timesAtLimit.map(JSON.number) ?? .null, "out_of_memory_kills": .number(outOfMemoryKills),
        ]
    }
}

/// How control groups are asked and told; tests have a kernel of their own.
package struct KernelFiles: Sendable {
    let read: @Sendable (String) -> String?
    let write: @Sendable (_ text: String, _ path: String) throws(LatheError) -> Void
    let names: @Sendable (String) -> [String]
    let makeFolder: @Sendable (String) throws(LatheError) -> Void
    let removeFolder: @Sendable (String) -> Void

    package static let real = KernelFiles(
        read: Files.readKernelText, write: Files.writeKernelText, names: { (try? Files.names(in: $0)) ?? [] },
        makeFolder: Files.createDirectory, removeFolder: Files.removeEmptyFolder)
}
