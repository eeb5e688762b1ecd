import CKernels
import LatheFormat

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A memory node, and the processors of it on which this process may run.
struct MemoryNode: Sendable, Hashable {
    let id: Int
    let processors: [Int]
}

/// What placement asks of a machine and tells it: a table of functions, so that a test can be a machine with many nodes.
package final class NodeSystem: Sendable, Hashable {
    struct Topology: Sendable, Hashable {
        /// Ascending, none without processors; fewer than two where nothing can be placed.
        var nodes: [MemoryNode] = []
        /// For people: how many nodes, or what stands in the way.
        var note: String
    }

    let topology: @Sendable () -> Topology
    /// Keeps the calling thread to the node's processors; whether it worked.
    let bindThread: @Sendable (MemoryNode) -> Bool
    /// Moves pages to a node, and has those that are not touched yet come from there; whether it worked.
    let place: @Sendable (_ pages: Range<UInt>, _ node: Int) -> Bool
    /// Bytes.
    let pageSize: UInt

    init(
        pageSize: UInt, topology: @escaping @Sendable () -> Topology,
        bindThread: @escaping @Sendable (MemoryNode) -> Bool,
        place: @escaping @Sendable (Range<UInt>, Int) -> Bool
    ) {
        self.pageSize = pageSize
        self.topology = topology
        self.bindThread = bindThread
        self.place = place
    }

    package static func == (a: NodeSystem, b: NodeSystem) -> Bool { a === b }
    package func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }

    /// The machine that this process runs on, by libnuma.
    package static let machine = NodeSystem(
        pageSize: UInt(sysconf(Int32(_SC_PAGESIZE))), topology: { machineTopology() },
        bindThread: { node in
            let processors = node.processors.reduce(lathe_cpu_set()) { lathe_cpu_set_adding($0, UInt32($1)) }
            return lathe_numa_bind_thread(processors) == 0
        },
        place: { pages, node in lathe_numa_place(pages.lowerBound, pages.count, Int32(node)) == 0 })

    private static func machineTopology() -> Topology {
        // Asked first, so that libnuma is no part of a process that it could not help.
        let list = Files.readKernelText("/sys/devices/system/node/online")
        let online = list.flatMap { ThreadCount.parseCPUList($0) } ?? 1
        guard online > 1 else { return Topology(note: "one node") }
        switch lathe_numa_load() {
        case LATHE_NUMA_READY: return usableNodes()
        case LATHE_NUMA_NO_LIBRARY:
            return Topology(note: "\(online) nodes, not used since libnuma.so.1 is not installed")
        default:
            return Topology(note: "\(online) nodes, not used since the system does not let this process place memory")
        }
    }

    /// Requires that libnuma is ready.
    static func usableNodes() -> Topology {
        let nodes = (0...Int(lathe_numa_max_node())).map { id in
            let processors = lathe_numa_cpus(Int32(id))
            return MemoryNode(
                id: id,
                processors: (0..<Int(LATHE_MAXIMUM_CPUS)).filter { lathe_cpu_set_contains(processors, UInt32($0)) })
        }
        return usable(nodes, mayAllocate: { lathe_numa_may_allocate(Int32($0)) })
    }

    /// Those of `nodes` that threads of this process may run on; none where one of them has no memory for it, since threads
    /// that compute there would have no place of their own.
    static func usable(_ nodes: [MemoryNode], mayAllocate: (Int) -> Bool) -> Topology {
        let nodes = nodes.filter { !$0.processors.isEmpty }
        guard nodes.count > 1 else { return Topology(nodes: nodes, note: "one node") }
        if let bare = nodes.first(where: { !mayAllocate($0.id) }) {
            return Topology(
                note: "\(nodes.count) nodes, not used since this process may have no memory of node \(bare.id)")
        }
        return Topology(nodes: nodes, note: "\(nodes.count) nodes")
    }
}
