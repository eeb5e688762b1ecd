import LatheFormat
import Synchronization
import Testing

@testable import LatheWorkbench

/// Control groups against a kernel that tests can see into; that of the machine is met in LatheCommandTests.
@Suite struct FenceGroupTests {
    private static let v1 = ControlGroup(version: 1, folders: ["/m/own", "/m"])
    private static let v2 = ControlGroup(version: 2, folders: ["/g/own", "/g"])

    private func create(_ kernel: FakeKernel, _ groups: [ControlGroup], limit: Int = 100_000_000) throws -> FenceGroup {
        try FenceGroup.create(
            limit: limit, in: groups, process: 7, isAlive: { $0 == 7 || $0 == 50 }, files: kernel.files)
    }

    @Test func version1() throws {
        let kernel = FakeKernel(["/m/own": ["cgroup.procs": "7\n8\n"]])
        let group = try create(kernel, [Self.v1])
        #expect(group.folder == "/m/own/lathe-fence-7")
        // Whole pages.
        #expect(group.limit == 99_999_744 && group.limit % 4096 == 0)
        #expect(kernel[group.folder, "memory.swappiness"] == "0")
        let both = try #require(kernel[group.folder, "memory.memsw.limit_in_bytes"].flatMap { Int($0) })
        #expect(both > group.limit, "else the counter that counts is never asked")
        try group.enter()
        #expect(group.members == [7])
        #expect(kernel["/m/own", "cgroup.procs"] == "8\n")
        #expect(!group.remove(), "a group with members stays")
        try group.leave()
        #expect(group.remove())
        #expect(kernel.folders == ["/m/own"])
        #expect(kernel["/m/own", "cgroup.procs"] == "8\n7\n")
    }

    @Test func version2WhereTheGroupDelegates() throws {
        let kernel = FakeKernel([
            "/g/own": [
                "cgroup.procs": "7\n8\n", "cgroup.controllers": "cpu memory", "cgroup.subtree_control": "memory",
            ]
        ])
        let group = try create(kernel, [Self.v1, Self.v2])
        #expect(group.version == 2 && group.folder == "/g/own/lathe-fence-7")
        #expect(kernel[group.folder, "memory.max"] == "99999744")
        #expect(kernel[group.folder, "memory.swap.max"] == "0")
        try group.enter()
        try group.leave()
        #expect(group.remove() && kernel.folders == ["/g/own"])
    }

    @Test func version2MovesAsideWhereItIsAlone() throws {
        let kernel = FakeKernel([
            "/g/own": ["cgroup.procs": "7\n", "cgroup.controllers": "memory", "cgroup.subtree_control": ""]
        ])
        let group = try create(kernel, [Self.v2])
        #expect(kernel["/g/own/lathe-keeper-7", "cgroup.procs"] == "7\n")
        try group.enter()
        try group.leave()
        #expect(kernel["/g/own/lathe-keeper-7", "cgroup.procs"] == "7\n")
        #expect(group.remove())
        #expect(kernel.folders == ["/g/own"])
        #expect(kernel["/g/own", "cgroup.procs"] == "7\n")
        #expect(kernel["/g/own", "cgroup.subtree_control"] == "")
    }

    @Test func version2LeavesOthersWhereTheyAre() throws {
        let kernel = FakeKernel([
            "/g/own": ["cgroup.procs": "7\n8\n", "cgroup.controllers": "memory", "cgroup.subtree_control": ""],
            "/m/own": ["cgroup.procs": "7\n"],
        ])
        #expect(throws: LatheError.self) { try create(kernel, [Self.v2]) }
        #expect(kernel.folders == ["/g/own", "/m/own"] && kernel["/g/own", "cgroup.procs"] == "7\n8\n")
        #expect(try create(kernel, [Self.v2, Self.v1]).version == 1, "what is left is version 1")
    }

    @Test func reasonsAreTold() throws {
        #expect(throws: LatheError.self) { try create(FakeKernel([:]), []) }
        let readOnly = FakeKernel(["/m/own": ["cgroup.procs": "7\n"]], isReadOnly: true)
        let error = #expect(throws: LatheError.self) { try create(readOnly, [Self.v1]) }
        #expect(error?.message.contains("/m/own/lathe-fence-7") == true)
        let without = FakeKernel(["/g/own": ["cgroup.procs": "7\n", "cgroup.controllers": "cpu"]])
        #expect(throws: LatheError.self) { try create(without, [Self.v2]) }
    }

    @Test func whatKilledKeepersLeftIsRemoved() throws {
        let kernel = FakeKernel([
            "/m/own": ["cgroup.procs": "7\n"], "/m/own/lathe-fence-40": ["cgroup.procs": ""],
            "/m/own/lathe-fence-50": ["cgroup.procs": ""], "/m/own/lathe-fence-x": ["cgroup.procs": ""],
        ])
        let group = try create(kernel, [Self.v1])
        #expect(kernel.folders == ["/m/own", "/m/own/lathe-fence-50", group.folder, "/m/own/lathe-fence-x"])
    }

    @Test func reports() throws {
        let kernel = FakeKernel(["/m/own": ["cgroup.procs": "7\n"]])
        let group = try create(kernel, [Self.v1])
        kernel[group.folder, "memory.max_usage_in_bytes"] = "61230000\n"
        kernel[group.folder, "memory.failcnt"] = "1\n"
        kernel[group.folder, "memory.oom_control"] = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
        #expect(
            group.report
                == FenceReport(
                    means: "cgroup v1", limit: group.limit, peak: 61_230_000, timesAtLimit: 1, outOfMemoryKills: 2))
        #expect(group.report.sentence == "fence: cgroup v1, limit 100.0 MB, peak 61.2 MB, 1 time at the limit")

        let second = FakeKernel([
            "/g/own": ["cgroup.procs": "7\n8\n", "cgroup.controllers": "memory", "cgroup.subtree_control": "memory"]
        ])
        let newer = try create(second, [Self.v2])
        second[newer.folder, "memory.peak"] = "5000000\n"
        second[newer.folder, "memory.events"] = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 1\noom_group_kill 0\n"
        #expect(
            newer.report
                == FenceReport(
                    means: "cgroup v2", limit: newer.limit, peak: 5_000_000, timesAtLimit: 12, outOfMemoryKills: 1))
        let silent = FenceReport(
            means: "RLIMIT_DATA", limit: 20_000_000, peak: nil, timesAtLimit: nil, outOfMemoryKills: 0)
        #expect(silent.sentence == "fence: RLIMIT_DATA, limit 20.0 MB")
    }
}

/// Groups as the kernel has them: a process is in one of them, folders come with their files, version 2 keeps members and
/// limited groups apart.
private final class FakeKernel: Sendable {
    private let state: Mutex<[String: [String: String]]>
    private let isReadOnly: Bool

    init(_ folders: [String: [String: String]], isReadOnly: Bool = false) {
        state = Mutex(folders)
        self.isReadOnly = isReadOnly
    }

    var folders: [String] { state.withLock { $0.keys.sorted() } }

    subscript(folder: String, file: String) -> String? {
        get { state.withLock { $0[folder]?[file] } }
        set { state.withLock { $0[folder]?[file] = newValue } }
    }

    private static func split(_ path: String) -> (folder: String, name: String) {
        let slash = path.lastIndex(of: "/")!
        return (String(path[..<slash]), String(path[path.index(after: slash)...]))
    }

    private func write(_ text: String, _ path: String) throws(LatheError) {
        let (folder, name) = Self.split(path)
        let failure = LatheError(.io, "Cannot write `\(text)` to `\(path)`.")
        let isDone = state.withLock { folders in
            guard let files = folders[folder], !isReadOnly else { return false }
            switch name {
            case "cgroup.procs":
                if files["cgroup.subtree_control"]?.isEmpty == false, folder != "/g/own" { return false }
                for other in folders.keys {
                    let members = (folders[other]!["cgroup.procs"] ?? "").split(separator: "\n").filter { $0 != text }
                    folders[other]!["cgroup.procs"] = members.map { "\($0)\n" }.joined()
                }
                folders[folder]!["cgroup.procs"]! += "\(text)\n"
            case "cgroup.subtree_control":
                guard files["cgroup.procs"]!.isEmpty || text == "-memory" else { return false }
                folders[folder]![name] = text == "+memory" ? "memory" : ""
            case "memory.max", "memory.limit_in_bytes": folders[folder]![name] = "\(Int(text)! / 4096 * 4096)"
            default: folders[folder]![name] = text
            }
            return true
        }
        if !isDone { throw failure }
    }

    var files: KernelFiles {
        KernelFiles(
            read: { path in
                let (folder, name) = Self.split(path)
                return self[folder, name]
            },
            write: { text, path throws(LatheError) in try self.write(text, path) },
            names: { folder in
                self.folders.filter { $0.hasPrefix(folder + "/") }.map { Self.split($0).name }
            },
            makeFolder: { path throws(LatheError) in
                guard !self.isReadOnly else { throw LatheError(.io, "Cannot make the folder `\(path)`.") }
                self.state.withLock { $0[path] = ["cgroup.procs": ""] }
            },
            removeFolder: { path in
                self.state.withLock { if $0[path]?["cgroup.procs"]?.isEmpty == true { $0[path] = nil } }
            })
    }
}
