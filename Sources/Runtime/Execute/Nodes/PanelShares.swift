import LatheFormat

/// Which panels of a matrix each memory node's threads multiply by, and so where the bytes of its parts belong: each part has
/// its panels one after the other.
struct PanelShares {
    private let nodes: NodePlacement
    private let panels: Int
    /// Panels, one more than nodes; empty where nothing is spread.
    private var cuts: [Int] = []
    /// Bytes of the next part, where its panels differ in length.
    private var packedCuts: [Int]?
    /// Of pages that were put on a node.
    private(set) var placedByteCount = 0

    /// Of a dense matrix. Vectors and position tables are small, and one thread reads them.
    init(_ parameter: Parameter, _ nodes: NodePlacement) {
        self.nodes = nodes
        panels = (parameter.columns + 15) / 16
        guard nodes.isActive, parameter.encoding != .rows else { return }
        cuts = nodes.cuts(of: panels) { Executor.panelShare(parameter.columns, $0, $1) }
    }

    /// Sparse panels are shared out by their bytes, and the packed values are the next part.
    ///
    /// - Parameters:
    ///   - share: panels of a thread of a team.
    ///   - start: of a panel in the packed values.
    mutating func pack(share: (_ thread: Int, _ threads: Int) -> Range<Int>, start: (_ panel: Int) -> Int) {
        guard !cuts.isEmpty else { return }
        cuts = nodes.cuts(of: panels, share: share)
        packedCuts = cuts.dropLast().map { $0 < panels ? start($0) : .max }
    }

    /// Puts the next part of the matrix where its readers are.
    mutating func place(address: UInt, byteCount: Int) {
        guard !cuts.isEmpty else { return }
        let dense = cuts.map { byteCount * $0 / panels }
        let packed = packedCuts.map { $0.map { min($0, byteCount) } + [byteCount] }
        packedCuts = nil
        placedByteCount += nodes.place(address: address, byteCount: byteCount, cuts: packed ?? dense)
    }
}
