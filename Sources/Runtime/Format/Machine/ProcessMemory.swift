/// What the kernel says of this process's memory.
package enum ProcessMemory {
    /// VmHWM: the most bytes ever resident at once; nil where the system does not say.
    package static func peakResidentBytes() -> Int? { status("VmHWM:") }

    /// VmRSS: bytes resident now; nil where the system does not say.
    package static func residentBytes() -> Int? { status("VmRSS:") }

    /// Pages that this process has waited for the disk for; nil where the system does not say.
    package static func majorPageFaults() -> Int? {
        // The twelfth field of proc_pid_stat(5), the tenth behind the name, which may hold anything but ends the last ")".
        guard let text = Files.readKernelText("/proc/self/stat"), let name = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: name)...].split(separator: " ")
        return fields.count > 9 ? Int(fields[9]) : nil
    }

    private static func status(_ key: String) -> Int? {
        guard let text = Files.readKernelText("/proc/self/status"),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix(key) }),
            let kilobytes = Int(line.dropFirst(key.count).filter(\.isNumber))
        else { return nil }
        return kilobytes * 1024
    }
}
