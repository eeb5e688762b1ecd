/// Whether weights and threads are spread over the memory nodes of a machine that has several. No result depends on it.
public enum NUMAMode: String, Sendable, Hashable, CaseIterable {
    /// Wherever threads compute on two nodes or more: each thread stays on its node, and the weights that it reads lie there.
    case auto
    /// The system decides where threads run and memory lies.
    case off
}

/// On which memory nodes an engine's threads compute and its weights lie.
///
/// Threads are split into one run of neighbours for each node, as many as its share of the processors; since a thread's share
/// of a matrix follows its number, so is the matrix.
public struct NodePlacement: Sendable, Hashable, CustomStringConvertible {
    /// The numbers of the nodes; empty where nothing is placed.
    public var nodes: [Int] { blocks.map(\.node.id) }
    /// How many nodes there are to be used, or why nothing is placed: `one node`, `off`, ….
    public let source: String

    public var description: String { source }

    /// A node and the threads that compute there, at least one.
    struct Block: Sendable, Hashable {
        let node: MemoryNode
        let threads: Range<Int>
    }

    /// Empty, or two and more that hold all threads in order.
    let blocks: [Block]
    let system: NodeSystem
    private let threads: Int

    var isActive: Bool { !blocks.isEmpty }

    init(_ mode: NUMAMode, threads: Int, system: NodeSystem) {
        self.system = system
        self.threads = threads
        guard mode == .auto else {
            (blocks, source) = ([], "off")
            return
        }
        let topology = system.topology()
        guard topology.nodes.count > 1 else {
            (blocks, source) = ([], topology.note)
            return
        }
        let blocks = Self.blocks(topology.nodes, threads: threads)
        guard blocks.count > 1 else {
            (self.blocks, source) = ([], "\(topology.note), of which one thread computes on one")
            return
        }
        (self.blocks, source) = (blocks, topology.note)
    }

    /// Thread t of n computes on the node that has processor ⌊t·p/n⌋, when all p processors are counted node by node: no node
    /// has more threads than processors unless there are more threads than processors.
    static func blocks(_ nodes: [MemoryNode], threads: Int) -> [Block] {
        let total = nodes.reduce(0) { $0 + $1.processors.count }
        var counted = 0
        return nodes.compactMap { node in
            let first = (counted * threads + total - 1) / total
            counted += node.processors.count
            let end = (counted * threads + total - 1) / total
            return first < end ? Block(node: node, threads: first..<end) : nil
        }
    }

    // MARK: Threads

    /// Keeps the calling thread, of a team of `threads`, to its node.
    ///
    /// - Parameter threads: fewer than planned where the system gave no more; weights lie as planned then.
    func bind(thread: Int, of threads: Int) {
        let blocks = threads == self.threads ? blocks : Self.blocks(self.blocks.map(\.node), threads: threads)
        guard let block = blocks.first(where: { $0.threads.contains(thread) }) else { return }
        // Where the system refuses, the thread computes wherever it is.
        _ = system.bindThread(block.node)
    }

    // MARK: Memory

    /// Where `count` panels are cut among the nodes: one more than blocks.
    ///
    /// - Parameter share: of a thread of a team.
    func cuts(of count: Int, share: (_ thread: Int, _ threads: Int) -> Range<Int>) -> [Int] {
        blocks.map { share($0.threads.lowerBound, threads).lowerBound } + [count]
    }

    /// What is smaller stays where it is: caches hold it, and each cut splits one of the process's maps, of which a system has
    /// a limited number (65 530 by Linux's default).
    static let leastByteCount = 1 << 16

    /// Puts memory where its readers are.
    ///
    /// - Parameter cuts: offsets in bytes, ascending, one more than blocks: block i's threads read `cuts[i] ..< cuts[i + 1]`.
    /// - Returns: bytes of all pages that the system took the wish for.
    func place(address: UInt, byteCount: Int, cuts: [Int]) -> Int {
        guard byteCount >= Self.leastByteCount else { return 0 }
        let pages = Self.pages(address: address, cuts: cuts, pageSize: system.pageSize)
        return zip(pages, blocks).reduce(0) { sum, placed in
            let (pages, block) = placed
            return !pages.isEmpty && system.place(pages, block.node.id) ? sum + pages.count : sum
        }
    }

    /// The pages of each part between two cuts, first and end address: whole pages within the memory alone, of which one that is
    /// cut belongs to the part behind the cut.
    static func pages(address: UInt, cuts: [Int], pageSize: UInt) -> [Range<UInt>] {
        func pageStart(_ offset: Int) -> UInt { (address + UInt(offset)) / pageSize * pageSize }
        let first = (address + UInt(cuts[0]) + pageSize - 1) / pageSize * pageSize
        let bounds = [first] + cuts.dropFirst().map { max(first, pageStart($0)) }
        return zip(bounds, bounds.dropFirst()).map { $0..<$1 }
    }
}
