/// How much memory the system lets this process have.
package enum MemoryLimits {
    /// The least of the limits of its control groups (version 1 and 2, with all groups above) and of RLIMIT_DATA and
    /// RLIMIT_AS; nil where nothing limits it, or the system does not say. What the machine has is not looked at.
    package static func current() -> (bytes: Int, source: String)? {
        least(
            groups: ControlGroup.containing(controller: "memory"),
            processLimits: Files.readKernelText("/proc/self/limits") ?? "", read: Files.readKernelText)
    }

    /// - Parameter read: the text of a file of the kernel's, nil where there is none.
    static func least(
        groups: [ControlGroup], processLimits: String, read: (String) -> String?
    ) -> (bytes: Int, source: String)? {
        var limits = parseProcessLimits(processLimits)
        for group in groups {
            for folder in group.folders {
                if let bytes = read("\(folder)/\(limitFile(version: group.version))").flatMap(parseLimit) {
                    limits.append((bytes, "cgroup v\(group.version)"))
                }
            }
            // Version 1 tells the least limit of all groups above, those too that a namespace hides.
            if group.version == 1, let text = read("\(group.folders[0])/memory.stat"),
                let bytes = parseHierarchicalLimit(text)
            {
                limits.append((bytes, "cgroup v1"))
            }
        }
        return limits.min { $0.bytes < $1.bytes }
    }

    package static func limitFile(version: Int) -> String { version == 2 ? "memory.max" : "memory.limit_in_bytes" }

    /// The number in `memory.max` or `memory.limit_in_bytes`; nil where it stands for no limit: `max`, or version 1's
    /// greatest multiple of the page size, 9223372036854771712 for pages of 4 kB.
    package static func parseLimit(_ text: String) -> Int? {
        guard let bytes = Int(text.filter { !$0.isWhitespace }), bytes >= 0, bytes < 1 << 62 else { return nil }
        return bytes
    }

    static func parseHierarchicalLimit(_ statistics: String) -> Int? {
        let key = "hierarchical_memory_limit "
        let line = statistics.split(separator: "\n").first { $0.hasPrefix(key) }
        return line.flatMap { parseLimit(String($0.dropFirst(key.count))) }
    }

    /// The soft limits in `/proc/PID/limits`: `Max data size  734003200  unlimited  bytes`.
    static func parseProcessLimits(_ text: String) -> [(bytes: Int, source: String)] {
        let names = [("Max data size", "RLIMIT_DATA"), ("Max address space", "RLIMIT_AS")]
        return text.split(separator: "\n").compactMap { line in
            guard let name = names.first(where: { line.hasPrefix($0.0 + " ") }),
                let value = line.dropFirst(name.0.count).split(separator: " ").first,
                let bytes = parseLimit(String(value))
            else { return nil }
            return (bytes, name.1)
        }
    }
}
