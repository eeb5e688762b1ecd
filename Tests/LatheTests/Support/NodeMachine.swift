import CKernels
import LatheFormat
import Synchronization

@testable import Lathe

/// A machine with the memory nodes that a test wants: it records what is asked of it, and does nothing or what the machine
/// under the test can.
final class NodeMachine: Sendable {
    struct Placed: Hashable, Sendable {
        let pages: Range<UInt>
        let node: Int
    }
    private struct Record {
        var placed: [Placed] = []
        var bound: [Int] = []
    }
    private let record = Mutex(Record())

    /// Nodes 0, 1, … with so many processors each, numbered on.
    static func nodes(_ counts: [Int]) -> [MemoryNode] {
        var next = 0
        return counts.enumerated().map { id, count in
            defer { next += count }
            return MemoryNode(id: id, processors: Array(next..<next + count))
        }
    }

    /// - Parameters:
    ///   - works: whether the machine does as it is told.
    ///   - acting: does what a call says besides, on the machine under the test.
    func system(
        _ nodes: [MemoryNode], pageSize: UInt = 4096, works: Bool = true,
        acting: NodeSystem? = nil
    ) -> NodeSystem {
        NodeSystem(
            pageSize: pageSize,
            topology: { NodeSystem.usable(nodes, mayAllocate: { _ in true }) },
            bindThread: { [self] node in
                record.withLock { $0.bound.append(node.id) }
                return works && acting?.bindThread(node) ?? true
            },
            place: { [self] pages, node in
                record.withLock { $0.placed.append(Placed(pages: pages, node: node)) }
                return works && acting?.place(pages, node) ?? true
            })
    }

    var placed: [Placed] { record.withLock { $0.placed } }
    /// The nodes that threads were kept to, ascending.
    var bound: [Int] { record.withLock { $0.bound }.sorted() }

    /// Whether this machine lets libnuma work: then its own calls can be tried, be it on a single node.
    static let hasLibnuma = lathe_numa_load() == LATHE_NUMA_READY
}
