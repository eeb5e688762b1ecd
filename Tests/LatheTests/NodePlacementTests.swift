import LatheFormat
import Testing

@testable import Lathe

/// Which threads and which bytes go to which memory node; no machine is asked.
@Suite struct NodePlacementTests {
    private func placement(_ counts: [Int], threads: Int, _ machine: NodeMachine = NodeMachine()) -> NodePlacement {
        NodePlacement(.auto, threads: threads, system: machine.system(NodeMachine.nodes(counts)))
    }

    // MARK: Topology

    @Test func nodesWithoutProcessorsForThisProcessAreLeftOut() {
        let nodes = [
            MemoryNode(id: 0, processors: []), MemoryNode(id: 1, processors: [4, 5]),
            MemoryNode(id: 3, processors: [9]),
        ]
        let two = NodeSystem.usable(nodes, mayAllocate: { $0 != 0 })
        #expect(two.nodes.map(\.id) == [1, 3] && two.note == "2 nodes")
        let bare = NodeSystem.usable(nodes, mayAllocate: { $0 != 3 })
        #expect(bare.nodes.isEmpty && bare.note.contains("no memory of node 3"))
        let one = NodeSystem.usable(Array(nodes.prefix(2)), mayAllocate: { _ in false })
        #expect(one.nodes.count == 1 && one.note == "one node")
        #expect(NodeSystem.usable([], mayAllocate: { _ in true }).note == "one node")
    }

    @Test(arguments: [
        (NUMAMode.off, [2, 2], 4, "off"), (.auto, [4], 4, "one node"), (.auto, [], 4, "one node"),
        (.auto, [0, 8], 4, "one node"), (.auto, [2, 2], 1, "2 nodes, of which one thread computes on one"),
    ])
    func nothingIsPlaced(mode: NUMAMode, counts: [Int], threads: Int, source: String) {
        let machine = NodeMachine()
        let placement = NodePlacement(mode, threads: threads, system: machine.system(NodeMachine.nodes(counts)))
        #expect(!placement.isActive && placement.nodes.isEmpty && placement.source == source)
        #expect("\(placement)" == source)
    }

    // MARK: Threads

    @Test(arguments: [
        ([2, 2], 4, [0..<2, 2..<4]), ([2, 2], 3, [0..<2, 2..<3]), ([2, 2], 2, [0..<1, 1..<2]),
        ([1, 3], 4, [0..<1, 1..<4]), ([4, 4, 4], 6, [0..<2, 2..<4, 4..<6]), ([2, 2], 8, [0..<4, 4..<8]),
        ([3, 1], 2, [0..<2]), ([2, 2, 2, 2], 2, [0..<1, 1..<2]),
    ])
    func threadsAreSpreadByProcessors(counts: [Int], threads: Int, expected: [Range<Int>]) {
        #expect(NodePlacement.blocks(NodeMachine.nodes(counts), threads: threads).map(\.threads) == expected)
    }

    @Test func everyThreadHasANodeAndNoNodeTooMany() {
        for counts in [[1, 1], [2, 2], [7, 5], [1, 15], [16, 16, 16, 16], [3, 9, 1, 5, 2]] {
            let total = counts.reduce(0, +)
            for threads in 1...(2 * total) {
                let blocks = NodePlacement.blocks(NodeMachine.nodes(counts), threads: threads)
                #expect(blocks.flatMap { Array($0.threads) } == Array(0..<threads))
                guard threads <= total else { continue }
                #expect(blocks.allSatisfy { $0.threads.count <= $0.node.processors.count }, "\(counts), \(threads)")
            }
        }
    }

    @Test func threadsAreKeptToTheirNodes() {
        let machine = NodeMachine()
        let placement = placement([2, 2], threads: 4, machine)
        #expect(placement.nodes == [0, 1] && placement.source == "2 nodes")
        for thread in 0..<4 { placement.bind(thread: thread, of: 4) }
        #expect(machine.bound == [0, 0, 1, 1])
        // A team that the system left at two threads.
        for thread in 0..<2 { placement.bind(thread: thread, of: 2) }
        #expect(machine.bound == [0, 0, 0, 1, 1, 1])
    }

    // MARK: Memory

    @Test func pagesOfCuts() {
        func pages(_ address: UInt, _ cuts: [Int]) -> [Range<UInt>] {
            NodePlacement.pages(address: address, cuts: cuts, pageSize: 4096)
        }
        #expect(pages(8192, [0, 4096, 8192]) == [8192..<12288, 12288..<16384])
        // A page with a cut in it belongs to the part behind it; none reaches over the memory's ends.
        #expect(pages(8192, [0, 5000, 9000]) == [8192..<12288, 12288..<16384])
        #expect(pages(8256, [0, 4096, 12288]) == [12288..<12288, 12288..<20480])
        #expect(pages(8256, [0, 100, 200]) == [12288..<12288, 12288..<12288])
        #expect(pages(8192, [0, 0, 8192]) == [8192..<8192, 8192..<16384])
    }

    /// Dense parts of every size, and packed ones whose panels differ: a page that one node's threads alone read lies there.
    @Test(arguments: [([2, 2], 4), ([1, 1], 2), ([3, 1], 4), ([2, 2, 2], 5)], [false, true])
    func bytesLieWhereTheyAreRead(machine shape: ([Int], Int), isPacked: Bool) {
        let threads = shape.1
        var random = SeededRandom(seed: 3)
        for columns in [16, 384, 1152, 8192, 50257] {
            let machine = NodeMachine()
            let placement = placement(shape.0, threads: threads, machine)
            let parameter = Parameter(
                name: "w", shape: [columns, 384],
                encoding: isPacked ? .quantized(QuantizedPanels(packedByteCount: 0)) : .qc8w)
            let panels = (columns + 15) / 16
            var starts = [0]
            for _ in 0..<panels { starts.append(starts.last! + Int.random(in: 2000...6144, using: &random)) }
            func share(_ thread: Int, _ threads: Int) -> Range<Int> { Executor.panelShare(columns, thread, threads) }
            var shares = PanelShares(parameter, placement)
            if isPacked { shares.pack(share: share, start: { starts[$0] }) }
            let byteCount = isPacked ? starts[panels] + 64 : 6144 * panels
            let address: UInt = 0x7000_0000_0040
            shares.place(address: address, byteCount: byteCount)

            #expect(machine.placed.reduce(0) { $0 + $1.pages.count } == shares.placedByteCount)
            guard byteCount >= NodePlacement.leastByteCount else {
                #expect(machine.placed.isEmpty)
                continue
            }
            func start(_ panel: Int) -> UInt { address + UInt(isPacked ? starts[panel] : 6144 * panel) }
            for block in placement.blocks {
                let first = start(share(block.threads.lowerBound, threads).lowerBound)
                let end = start(share(block.threads.upperBound - 1, threads).upperBound)
                for page in stride(from: (first + 4095) / 4096 * 4096, to: end, by: 4096) where page + 4096 <= end {
                    #expect(
                        machine.placed.first { $0.pages.contains(page) }?.node == block.node.id,
                        "\(columns) columns, page at \(page - address)")
                }
            }
        }
    }

    @Test func vectorsStay() {
        let machine = NodeMachine()
        var shares = PanelShares(
            Parameter(name: "wpe", shape: [1024, 768], encoding: .rows), placement([2, 2], threads: 4, machine))
        shares.place(address: 1 << 20, byteCount: 1024 * 768 * 4)
        #expect(machine.placed.isEmpty)
    }

    @Test func whatTheSystemRefusesIsNotCounted() {
        let machine = NodeMachine()
        let system = machine.system(NodeMachine.nodes([2, 2]), works: false)
        let placement = NodePlacement(.auto, threads: 4, system: system)
        #expect(placement.place(address: 1 << 20, byteCount: 1 << 20, cuts: [0, 1 << 19, 1 << 20]) == 0)
        #expect(machine.placed.count == 2)
    }
}
