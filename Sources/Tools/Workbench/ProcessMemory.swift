import LatheFormat

/// What the kernel says of this process's memory.
public enum ProcessMemory {
    /// VmHWM: the most bytes ever resident at once; nil where the system does not say.
    public static func peakResidentBytes() -> Int? { status("VmHWM:") }

    private static func status(_ key: String) -> Int? {
        guard let text = Files.readKernelText("/proc/self/status"),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix(key) }),
            let kilobytes = Int(line.dropFirst(key.count).filter(\.isNumber))
        else { return nil }
        return kilobytes * 1024
    }
}
