import Testing

@testable import LatheFormat

/// Texts of the kernel's as they were seen, and as they must not mislead.
@Suite struct MemoryLimitsTests {
    private static let v1Mounts = """
        22 27 0:21 / /proc rw,relatime - proc proc rw
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
        33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
        """
    private static let v2Mounts =
        "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot"

    private func folders(_ membership: String, _ mounts: String, _ controller: String = "memory") -> [[String]] {
        ControlGroup.parse(membership: membership, mounts: mounts, controller: controller).map(\.folders)
    }

    @Test func version1GoesUpToItsOwnMount() {
        let groups = ControlGroup.parse(
            membership: "4:memory:/a/b c\n3:cpuset:/\n1:cpu,cpuacct:/d\n", mounts: Self.v1Mounts, controller: "memory")
        let root = "/sys/fs/cgroup/memory"
        #expect(groups == [ControlGroup(version: 1, folders: ["\(root)/a/b c", "\(root)/a", root])])
        #expect(
            folders("1:cpu,cpuacct:/d", Self.v1Mounts, "cpu")
                == [["/sys/fs/cgroup/cpu,cpuacct/d", "/sys/fs/cgroup/cpu,cpuacct"]])
    }

    @Test func version2GoesUpToTheTop() {
        #expect(
            folders("0::/user.slice/run-1.scope\n", Self.v2Mounts)
                == [
                    [
                        "/sys/fs/cgroup/user.slice/run-1.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup",
                    ]
                ])
    }

    @Test func hybridSystemsHaveTwo() {
        let both = ControlGroup.parse(membership: "4:memory:/a\n0::/b\n", mounts: Self.v1Mounts, controller: "memory")
        #expect(both.map(\.version) == [1, 2])
        #expect(both.last?.folders == ["/sys/fs/cgroup/unified/b", "/sys/fs/cgroup/unified"])
    }

    @Test(arguments: [
        // A namespace whose root is the process's own group.
        ("0::/", "29 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw", ["/sys/fs/cgroup"]),
        // A container that sees the machine's path, with its own group mounted at the top.
        (
            "4:memory:/docker/abc/inner",
            "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro master:12 - cgroup cgroup rw,memory",
            ["/sys/fs/cgroup/memory/inner", "/sys/fs/cgroup/memory"]
        ),
        // One that lies elsewhere, beyond the root, or only begins alike: what is mounted is all that is known.
        ("4:memory:/other", "35 31 0:32 /docker/abc /m ro - cgroup cgroup rw,memory", ["/m"]),
        ("4:memory:/docker/abcd", "35 31 0:32 /docker/abc /m ro - cgroup cgroup rw,memory", ["/m"]),
        ("0::/../../x", "29 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw", ["/sys/fs/cgroup"]),
        // Names with characters that the kernel escapes, or that part the fields.
        ("0::/a:b", "29 22 0:26 / /my\\040groups rw - cgroup2 cgroup rw", ["/my groups/a:b", "/my groups"]),
        ("0::/a", "29 22 0:26 / / rw - cgroup2 cgroup rw", ["/a", ""]),
    ])
    func namespacesAndContainers(membership: String, mounts: String, expected: [String]) {
        #expect(folders(membership, mounts) == [expected])
    }

    @Test(arguments: [
        "", "\n\n", "memory", "4:memory", "4:memory:relative", "::", "4:cpu:/a", "4:memoryx:/a", "\u{0}\u{FFFD}",
    ])
    func nonsenseIsNoMembership(membership: String) {
        #expect(folders(membership, Self.v1Mounts).isEmpty)
    }

    @Test(arguments: [
        "", "35 31 0:32 /", "35 31 0:32 / /m rw", "35 31 0:32 / /m rw - cgroup", "35 31 0:32 / /m rw - tmpfs x rw,memory",
        "35 31 0:32 / /m rw - cgroup cgroup rw,cpu", "- - - - - - - - -",
    ])
    func nonsenseIsNoMount(mounts: String) {
        #expect(folders("4:memory:/a", mounts).isEmpty)
    }

    @Test(arguments: [
        ("734003200\n", 734_003_200), ("0\n", 0), ("max\n", nil), ("9223372036854771712\n", nil),
        ("9223372036854710272\n", nil), ("-1\n", nil), ("18446744073709551615\n", nil), ("", nil), ("7x", nil),
    ])
    func limits(text: String, bytes: Int?) {
        #expect(MemoryLimits.parseLimit(text) == bytes)
    }

    @Test func hierarchicalLimit() {
        #expect(
            MemoryLimits.parseHierarchicalLimit("cache 0\nhierarchical_memory_limit 1048576\ntotal_cache 0\n")
                == 1_048_576)
        #expect(MemoryLimits.parseHierarchicalLimit("hierarchical_memory_limit 9223372036854771712\n") == nil)
        #expect(MemoryLimits.parseHierarchicalLimit("cache 0\n") == nil)
    }

    private static let processLimits = """
        Limit                     Soft Limit           Hard Limit           Units
        Max file size             unlimited            unlimited            bytes
        Max data size             734003200            unlimited            bytes
        Max address space         unlimited            unlimited            bytes
        """

    @Test func processLimits() {
        let limits = MemoryLimits.parseProcessLimits(Self.processLimits)
        #expect(limits.map(\.bytes) == [734_003_200] && limits.map(\.source) == ["RLIMIT_DATA"])
        #expect(MemoryLimits.parseProcessLimits("Max data size\nMax address space   \nMax data sizes 5").isEmpty)
        #expect(MemoryLimits.parseProcessLimits("Max address space  5 6 bytes").map(\.source) == ["RLIMIT_AS"])
    }

    @Test func theLeastCounts() {
        let v1 = ControlGroup(version: 1, folders: ["/m/a/b", "/m/a", "/m"])
        let v2 = ControlGroup(version: 2, folders: ["/u/x", "/u"])
        var texts = [
            "/m/a/b/memory.limit_in_bytes": "900", "/m/a/memory.limit_in_bytes": "800",
            "/m/memory.limit_in_bytes": "9223372036854771712", "/u/x/memory.max": "max", "/u/memory.max": "700",
        ]
        func least(_ groups: [ControlGroup], _ limits: String = "") -> [String] {
            MemoryLimits.least(groups: groups, processLimits: limits) { texts[$0] }.map { ["\($0.bytes)", $0.source] }
                ?? []
        }
        #expect(least([v1]) == ["800", "cgroup v1"])
        #expect(least([v1, v2]) == ["700", "cgroup v2"])
        #expect(least([], Self.processLimits) == ["734003200", "RLIMIT_DATA"])
        #expect(least([v2], Self.processLimits) == ["700", "cgroup v2"])
        // Hidden by a namespace, but told.
        texts["/m/a/b/memory.stat"] = "hierarchical_memory_limit 600\n"
        #expect(least([v1, v2]) == ["600", "cgroup v1"])
        texts = [:]
        #expect(least([v1, v2]).isEmpty, "nothing is limited, or nothing can be read")
    }

    #if os(Linux)
        @Test func thisProcessIsInItsGroups() {
            // Whatever limits it, the answer must be one that a process can live with.
            if let limit = MemoryLimits.current() { #expect(limit.bytes > 1 << 20) }
            for group in ControlGroup.containing(controller: "memory") {
                #expect(Files.isDirectory(group.folders.last!), "\(group)")
            }
        }
    #endif
}
