package import LatheFormat

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// How many threads compute, and why that many.
public struct ThreadCount: Sendable, Hashable, CustomStringConvertible {
    public let count: Int
    /// What set the count: `requested`, `affinity`, `cgroup quota` or `cores`.
    public let source: String

    public var description: String { "\(count) (\(source))" }

    /// - Parameter requested: nil for max(1, min(affinity, ⌊cgroup quota⌋, physical cores)).
    package init(requested: Int?) throws(LatheError) {
        if let requested {
            guard (1...1024).contains(requested) else {
                throw LatheError(.invalidRequest, "\(requested) threads were asked; 1 to 1024 are possible.")
            }
            (count, source) = (requested, "requested")
            return
        }
        var best = (count: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))), source: "cores")
        if let cores = Self.physicalCores(), cores < best.count { best.count = cores }
        if let allowed = Self.affinity(), allowed < best.count { best = (allowed, "affinity") }
        if let quota = Self.cgroupQuota(), quota < Double(best.count) { best = (max(1, Int(quota)), "cgroup quota") }
        (count, source) = best
    }

    /// Threads of one core share its arithmetic units, so hyperthreads are not counted.
    private static func physicalCores() -> Int? {
        guard let text = Files.readKernelText("/proc/cpuinfo") else { return nil }
        var cores: Set<String> = []
        var package = ""
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            if parts[0].hasPrefix("physical id") { package = String(parts[1]) }
            if parts[0].hasPrefix("core id") { cores.insert(package + "/" + parts[1]) }
        }
        return cores.isEmpty ? nil : cores.count
    }

    private static func affinity() -> Int? {
        guard let text = Files.readKernelText("/proc/self/status"),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("Cpus_allowed_list:") })
        else { return nil }
        return parseCPUList(line.dropFirst("Cpus_allowed_list:".count))
    }

    /// How many processors a list such as `0-3,8` names.
    static func parseCPUList(_ list: some StringProtocol) -> Int? {
        var count = 0
        for part in list.split(separator: ",") {
            // UInt32: processors are few, and sums of such numbers do not overflow.
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map {
                UInt32(String($0.filter { !$0.isWhitespace }))
            }
            guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1], last >= first
            else { return nil }
            count += Int(last - first) + 1
        }
        return count > 0 ? count : nil
    }

    /// CPUs that the control group may use, over all of its ancestors; nil where nothing limits it.
    private static func cgroupQuota() -> Double? {
        ControlGroup.containing(controller: "cpu").flatMap { group in
            group.folders.compactMap { group.version == 2 ? quotaV2($0) : quotaV1($0) }
        }.min()
    }

    private static func quotaV2(_ folder: String) -> Double? {
        guard let fields = Files.readKernelText("\(folder)/cpu.max")?.split(whereSeparator: \.isWhitespace),
            fields.count == 2
        else { return nil }
        return parseQuota(String(fields[0]), period: String(fields[1]))
    }

    private static func quotaV1(_ folder: String) -> Double? {
        guard let quota = Files.readKernelText("\(folder)/cpu.cfs_quota_us"),
            let period = Files.readKernelText("\(folder)/cpu.cfs_period_us")
        else { return nil }
        return parseQuota(quota.filter { !$0.isWhitespace }, period: period.filter { !$0.isWhitespace })
    }

    /// `max` and -1 are no numbers above zero: no limit.
    static func parseQuota(_ quota: String, period: String) -> Double? {
        guard let quota = Int64(quota), let period = Int64(period), quota > 0, period > 0 else { return nil }
        return Double(quota) / Double(period)
    }
}
