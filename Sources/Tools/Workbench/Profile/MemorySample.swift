import LatheFormat

/// What the kernel says of one process's memory at one moment. Bytes.
package struct MemorySample: Hashable, Sendable {
    /// Seconds since the profile began.
    package var time = 0.0
    package var resident = 0
    /// Memory of its own; the rest of what is resident stands in files, mapped, and could be read again.
    package var anonymous = 0
    package var swap = 0
    package var file: Int { max(0, resident - anonymous) }
    /// VmHWM, the most that was ever resident.
    package var peakResident = 0
    /// Pages that had to be read from a disk, so far.
    package var majorFaults = 0
    /// What a fence charges at this moment, page cache too.
    package var charged: Int?

    package init() {}

    /// - Parameters:
    ///   - rollup: `/proc/PID/smaps_rollup`.
    ///   - status: `/proc/PID/status`.
    ///   - statistics: `/proc/PID/stat`.
    /// - Returns: nil where the process has no memory, because it has ended.
    init?(rollup: String, status: String, statistics: String) {
        guard let resident = Self.kilobytes("Rss:", in: rollup) else { return nil }
        self.resident = resident
        anonymous = Self.kilobytes("Anonymous:", in: rollup) ?? 0
        swap = Self.kilobytes("Swap:", in: rollup) ?? 0
        peakResident = Self.kilobytes("VmHWM:", in: status) ?? resident
        // The twelfth field; the second, a name in parentheses, may hold anything (proc_pid_stat(5)).
        let fields = statistics.lastIndex(of: ")").map { statistics[$0...].split(separator: " ") } ?? []
        majorFaults = fields.count > 10 ? Int(fields[10]) ?? 0 : 0
    }

    private static func kilobytes(_ key: String, in text: String) -> Int? {
        for line in text.split(separator: "\n") where line.hasPrefix(key) {
            return Int(line.dropFirst(key.count).filter(\.isNumber)).map { $0 * 1024 }
        }
        return nil
    }
}

/// Looks at a process again and again.
package struct MemoryProbe: Sendable {
    package let process: Int
    /// Of the fence that it is in.
    private let chargeFile: String?

    package init(process: Int) {
        self.process = process
        let fence = ControlGroup.containing(process: process, controller: "memory").first {
            $0.folders[0].split(separator: "/").last?.hasPrefix(FenceGroup.namePrefix) == true
        }
        chargeFile = fence.map { "\($0.folders[0])/\($0.version == 2 ? "memory.current" : "memory.usage_in_bytes")" }
    }

    /// nil when the process has ended.
    package func sample() -> MemorySample? {
        let folder = "/proc/\(process)"
        guard let rollup = Files.readKernelText("\(folder)/smaps_rollup"),
            var sample = MemorySample(
                rollup: rollup, status: Files.readKernelText("\(folder)/status") ?? "",
                statistics: Files.readKernelText("\(folder)/stat") ?? "")
        else { return nil }
        sample.charged = chargeFile.flatMap(Files.readKernelText).flatMap { Int($0.filter(\.isNumber)) }
        return sample
    }
}
