import LatheFormat

/// Byte-pair merging of one word: again and again the pair of neighbours with the lowest rank, the leftmost of equals,
/// becomes one symbol (Sennrich et al., "Neural machine translation of rare words with subword units", 2016).
///
/// Short words search all pairs for the lowest; long ones keep the pairs in a heap, so that n symbols take O(n log n)
/// steps: a megabyte of one letter is one word. Both give the same result. The scratch memory is kept between words: 28
/// to 36 bytes for each byte of the longest.
struct PairMerger {
    private let capacity: Int
    private let probes: Int
    private let shortLimit: Int

    private struct Symbol {
        var id: UInt32
        /// The rank of the pair with the next symbol, `none` if the two do not merge, and what they become.
        var rank = TokenizerTables.none
        var result = TokenizerTables.none
    }

    private var symbols: [Symbol] = []
    /// For long words: the positions of the neighbours, `none` beyond the ends.
    private var next: [UInt32] = []
    private var previous: [UInt32] = []
    /// A binary min-heap of rank and position. An entry whose pair has changed since is skipped when it comes up.
    private var heap: [UInt64] = []

    /// Operations so far, for the test that the work is near-linear: looks into the table, steps up or down the heap,
    /// symbols passed in the search through a short word.
    private(set) var operations = 0

    /// - Parameters:
    ///   - capacity: of the merge table, in slots.
    ///   - probes: how far behind its own slot a pair may stand.
    ///   - shortLimit: words of more symbols than this use the heap.
    init(capacity: Int, probes: Int, shortLimit: Int = 32) {
        self.capacity = capacity
        self.probes = probes
        self.shortLimit = shortLimit
    }

    /// Begins a word of at most `length` symbols.
    mutating func begin(length: Int) {
        symbols.removeAll(keepingCapacity: true)
        // Growing by doubling would nearly double the peak where it counts.
        if length > shortLimit { symbols.reserveCapacity(length) }
    }

    mutating func append(_ id: UInt32) { symbols.append(Symbol(id: id)) }

    /// Merges the symbols appended since `begin` and appends what they become to `ids`.
    /// - Parameter table: the slots of `tokenizer.merges.index`, `capacity` of them.
    mutating func merge(by table: Span<UInt32>, into ids: inout [Int32]) {
        if symbols.count > 1 {
            findPairs(table)
            if symbols.count <= shortLimit { mergeShort(table) } else { mergeLong(table) }
        }
        for symbol in symbols { ids.append(Int32(truncatingIfNeeded: symbol.id)) }
    }

    // MARK: The table

    /// The rank of a pair in the upper half, what it becomes in the lower; all ones if it does not merge.
    @inline(__always)
    private mutating func pair(_ left: UInt32, _ right: UInt32, _ table: Span<UInt32>) -> UInt64 {
        var slot = TokenizerHash.slot(left: left, right: right, capacity: capacity)
        for _ in 0...probes {
            operations &+= 1
            let at = slot &* 4
            let found = table[at]
            if found == left && table[at + 1] == right { return UInt64(table[at + 2]) << 32 | UInt64(table[at + 3]) }
            if found == TokenizerTables.none { break }
            slot += 1
            if slot == capacity { slot = 0 }
        }
        return .max
    }

    private mutating func findPairs(_ table: Span<UInt32>) {
        for index in 0..<symbols.count - 1 { setPair(at: index, next: symbols[index + 1].id, table) }
    }

    @inline(__always)
    private mutating func setPair(at index: Int, next: UInt32, _ table: Span<UInt32>) {
        let found = pair(symbols[index].id, next, table)
        symbols[index].rank = UInt32(truncatingIfNeeded: found >> 32)
        symbols[index].result = UInt32(truncatingIfNeeded: found)
    }

    // MARK: Short words

    private mutating func mergeShort(_ table: Span<UInt32>) {
        while true {
            var lowest = TokenizerTables.none
            var place = 0
            for index in 0..<symbols.count where symbols[index].rank < lowest {
                lowest = symbols[index].rank
                place = index
            }
            operations &+= symbols.count
            if lowest == TokenizerTables.none { return }
            symbols[place].id = symbols[place].result
            for index in place + 1..<symbols.count - 1 { symbols[index] = symbols[index + 1] }
            symbols.removeLast()
            if place + 1 < symbols.count {
                setPair(at: place, next: symbols[place + 1].id, table)
            } else {
                symbols[place].rank = TokenizerTables.none
            }
            if place > 0 { setPair(at: place - 1, next: symbols[place].id, table) }
        }
    }

    // MARK: Long words

    private mutating func mergeLong(_ table: Span<UInt32>) {
        let count = symbols.count
        next.removeAll(keepingCapacity: true)
        previous.removeAll(keepingCapacity: true)
        heap.removeAll(keepingCapacity: true)
        next.reserveCapacity(count)
        previous.reserveCapacity(count)
        heap.reserveCapacity(count)
        for index in 0..<count {
            next.append(index + 1 < count ? UInt32(index + 1) : TokenizerTables.none)
            previous.append(index > 0 ? UInt32(index - 1) : TokenizerTables.none)
            if symbols[index].rank != TokenizerTables.none { heap.append(key(at: index)) }
        }
        for index in stride(from: heap.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
        while let key = popLowest() {
            let place = Int(key & 0xFFFF_FFFF)
            if symbols[place].rank == UInt32(truncatingIfNeeded: key >> 32) { mergePair(at: place, table) }
        }
        var kept = 0
        var index: UInt32 = 0
        while index != TokenizerTables.none {
            symbols[kept] = symbols[Int(index)]
            kept += 1
            index = next[Int(index)]
        }
        symbols.removeLast(count - kept)
    }

    private mutating func mergePair(at place: Int, _ table: Span<UInt32>) {
        let removed = Int(next[place])
        symbols[place].id = symbols[place].result
        symbols[removed].rank = TokenizerTables.none
        symbols[place].rank = TokenizerTables.none
        next[place] = next[removed]
        if next[place] != TokenizerTables.none {
            let following = Int(next[place])
            previous[following] = UInt32(place)
            setPair(at: place, next: symbols[following].id, table)
            if symbols[place].rank != TokenizerTables.none { push(key(at: place)) }
        }
        if previous[place] != TokenizerTables.none {
            let preceding = Int(previous[place])
            setPair(at: preceding, next: symbols[place].id, table)
            if symbols[preceding].rank != TokenizerTables.none { push(key(at: preceding)) }
        }
    }

    private func key(at index: Int) -> UInt64 { UInt64(symbols[index].rank) << 32 | UInt64(index) }

    private mutating func push(_ key: UInt64) {
        var index = heap.count
        heap.append(key)
        while index > 0 {
            operations &+= 1
            let parent = (index - 1) / 2
            if heap[parent] <= key { break }
            heap[index] = heap[parent]
            index = parent
        }
        heap[index] = key
    }

    private mutating func popLowest() -> UInt64? {
        guard let last = heap.popLast() else { return nil }
        guard let lowest = heap.first else { return last }
        heap[0] = last
        siftDown(0)
        return lowest
    }

    private mutating func siftDown(_ start: Int) {
        let key = heap[start]
        var index = start
        while true {
            operations &+= 1
            var child = 2 * index + 1
            if child >= heap.count { break }
            if child + 1 < heap.count && heap[child + 1] < heap[child] { child += 1 }
            if heap[child] >= key { break }
            heap[index] = heap[child]
            index = child
        }
        heap[index] = key
    }
}
