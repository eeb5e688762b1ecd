/// A control group of this process for one controller, with the groups above it, as folders that the kernel shows.
package struct ControlGroup: Hashable, Sendable {
    /// 1: a hierarchy for each controller; 2: one for all.
    package let version: Int
    /// The group's own folder first, then those above it, up to the top of what is mounted here.
    package let folders: [String]

    package init(version: Int, folders: [String]) {
        self.version = version
        self.folders = folders
    }

    /// The groups that may hold limits of `controller`: none, or on systems with both versions two.
    ///
    /// - Parameter process: a process id; nil for this process.
    package static func containing(process: Int? = nil, controller: String) -> [ControlGroup] {
        let folder = "/proc/\(process.map(String.init) ?? "self")"
        guard let membership = Files.readKernelText("\(folder)/cgroup"),
            let mounts = Files.readKernelText("/proc/self/mountinfo")
        else { return [] }
        return parse(membership: membership, mounts: mounts, controller: controller)
    }

    /// - Parameters:
    ///   - membership: `/proc/PID/cgroup`, lines `hierarchy:controllers:path`, without controllers for version 2
    ///     (cgroups(7)).
    ///   - mounts: `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
    static func parse(membership: String, mounts: String, controller: String) -> [ControlGroup] {
        let mounts = mounts.split(separator: "\n").compactMap(Mount.init)
        return membership.split(separator: "\n").compactMap { line in
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3, parts[2].hasPrefix("/") else { return nil }
            let version = parts[1].isEmpty ? 2 : 1
            guard version == 2 || parts[1].split(separator: ",").contains(Substring(controller)) else { return nil }
            let candidates = mounts.filter { $0.shows(version: version, controller: controller) }
            // Whoever mounted it saw another root than this process may: then only the mount's own group is known.
            guard let mount = candidates.first(where: { $0.relative(parts[2]) != nil }) ?? candidates.first
            else { return nil }
            let names = (mount.relative(parts[2]) ?? "").split(separator: "/")
            let base = mount.point == "/" ? "" : mount.point
            return ControlGroup(
                version: version,
                folders: (0...names.count).reversed().map { count in
                    names[..<count].reduce(base) { "\($0)/\($1)" }
                })
        }
    }
}

/// A line of mountinfo that shows control groups:
/// `35 31 0:32 ROOT POINT rw,relatime [optional …] - cgroup SOURCE rw,memory`.
private struct Mount {
    /// The group, as path of the hierarchy, that stands at `point`.
    let root: String
    let point: String
    private let version: Int
    private let controllers: [Substring]

    init?(line: Substring) {
        let fields = line.split(separator: " ")
        guard let dash = fields.firstIndex(of: "-"), dash >= 6, fields.count >= dash + 4 else { return nil }
        switch fields[dash + 1] {
        case "cgroup": version = 1
        case "cgroup2": version = 2
        default: return nil
        }
        root = Self.unescaped(fields[3])
        point = Self.unescaped(fields[4])
        controllers = fields[dash + 3].split(separator: ",")
    }

    func shows(version: Int, controller: String) -> Bool {
        self.version == version && (version == 2 || controllers.contains(Substring(controller)))
    }

    /// A group's path below this mount; nil where it lies outside.
    func relative(_ path: Substring) -> Substring? {
        guard !path.split(separator: "/").contains("..") else { return nil }
        if root == "/" { return path }
        if path == root { return "" }
        return path.hasPrefix(root + "/") ? path.dropFirst(root.count) : nil
    }

    /// The kernel writes space, tab, newline and backslash as `\040` and so on.
    private static func unescaped(_ text: Substring) -> String {
        guard text.contains("\\") else { return String(text) }
        let bytes = Array(text.utf8)
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "\\"), index + 3 < bytes.count,
                let code = UInt8(String(decoding: bytes[index + 1...index + 3], as: UTF8.self), radix: 8)
            {
                result.append(code)
                index += 4
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}
