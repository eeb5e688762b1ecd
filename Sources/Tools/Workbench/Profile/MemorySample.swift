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
    /// Of `file` what is the program itself and its libraries, as last seen.
    package var program = 0
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

    /// Resident pages of the executable and of shared libraries.
    ///
    /// - Parameter maps: `/proc/PID/smaps`: for each mapping a line `address permissions offset device inode path`, then
    ///   its counts.
    static func programBytes(maps: String, executable: String) -> Int {
        var sum = 0
        var isProgram = false
        for line in maps.split(separator: "\n") {
            if line.utf8.first.map({
                UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 || UInt8(ascii: "a")...UInt8(ascii: "f") ~= $0
            })
                == true
            {
                let fields = line.split(separator: " ", maxSplits: 5)
                let path = fields.count == 6 ? fields[5].drop { $0 == " " } : ""
                isProgram = path == executable || path.contains(".so.") || path.hasSuffix(".so")
            } else if isProgram, line.hasPrefix("Rss:") {
                sum += kilobytes("Rss:", in: String(line)) ?? 0
            } else if isProgram, line.hasPrefix("Anonymous:") {
                sum -= kilobytes("Anonymous:", in: String(line)) ?? 0
            }
        }
        return sum
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
    /// Each mapping is looked at more rarely than their sum: that takes ten times as long, and the program hardly changes.
    private var program = 0
    private var looks = 0

    package init(process: Int) {
        self.process = process
        let fence = ControlGroup.containing(process: process, controller: "memory").first {
            $0.folders[0].split(separator: "/").last?.hasPrefix(FenceGroup.namePrefix) == true
        }
        chargeFile = fence.map { "\($0.folders[0])/\($0.version == 2 ? "memory.current" : "memory.usage_in_bytes")" }
    }

    /// nil when the process has ended.
    package mutating func sample() -> MemorySample? {
        let folder = "/proc/\(process)"
        guard let rollup = Files.readKernelText("\(folder)/smaps_rollup"),
            var sample = MemorySample(
                rollup: rollup, status: Files.readKernelText("\(folder)/status") ?? "",
                statistics: Files.readKernelText("\(folder)/stat") ?? "")
        else { return nil }
        if looks % 10 == 0, let executable = Files.linkDestination("\(folder)/exe"),
            let maps = Files.readKernelText("\(folder)/smaps")
        {
            program = MemorySample.programBytes(maps: maps, executable: executable)
        }
        looks += 1
        sample.program = min(program, sample.file)
        sample.charged = chargeFile.flatMap(Files.readKernelText).flatMap { Int($0.filter(\.isNumber)) }
        return sample
    }
}
