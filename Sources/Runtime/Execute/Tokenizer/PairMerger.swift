import LatheFormat

/// Byte-pair merging of one word: again and again the pair of neighbours with the lowest rank, the leftmost of equals,
/// becomes one symbol (Sennrich et al., "Neural machine translation of rare words with subword units", 2016).
///
/// Short words search all pairs for the lowest; long ones keep the pairs in a heap, so that n symbols take O(n log n)
/// steps: a megabyte of one letter is one word. Both give the same result. The scratch memory is kept between words: about
/// 28 bytes for each byte of the longest.
struct PairMerger {
    private let capacity: Int
    private let probes: Int
    private let shortLimit: Int

    /// The word: a symbol each, with the rank and the result of its pair with the next symbol.
    private var symbols: [UInt32] = []
    private var ranks: [UInt32] = []
    private var results: [UInt32] = []
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

    mutating func removeAll() { symbols.removeAll(keepingCapacity: true) }
    mutating func append(_ symbol: UInt32) { symbols.append(symbol) }

    /// Merges the symbols appended since `removeAll` and appends what they become to `ids`.
    /// - Parameter table: the slots of `tokenizer.merges.index`, `capacity` of them.
    mutating func merge(by table: Span<UInt32>, into ids: inout [Int32]) {
        if symbols.count > 1 {
            findPairs(table)
            if symbols.count <= shortLimit { mergeShort(table) } else { mergeLong(table) }
        }
        for symbol in symbols { ids.append(Int32(truncatingIfNeeded: symbol)) }
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
        ranks.removeAll(keepingCapacity: true)
        results.removeAll(keepingCapacity: true)
        for index in 0..<symbols.count - 1 {
            let found = pair(symbols[index], symbols[index + 1], table)
            ranks.append(UInt32(truncatingIfNeeded: found >> 32))
            results.append(UInt32(truncatingIfNeeded: found))
        }
        ranks.append(TokenizerTables.none)
        results.append(TokenizerTables.none)
    }

    private mutating func setPair(at index: Int, next: UInt32, _ table: Span<UInt32>) {
        let found = pair(symbols[index], next, table)
        ranks[index] = UInt32(truncatingIfNeeded: found >> 32)
        results[index] = UInt32(truncatingIfNeeded: found)
    }

    // MARK: Short words

    private mutating func mergeShort(_ table: Span<UInt32>) {
        while true {
            var lowest = TokenizerTables.none
            var place = 0
            for index in 0..<ranks.count where ranks[index] < lowest {
                lowest = ranks[index]
                place = index
            }
            operations &+= ranks.count
            if lowest == TokenizerTables.none { return }
            symbols[place] = results[place]
            symbols.remove(at: place + 1)
            ranks.remove(at: place + 1)
            results.remove(at: place + 1)
            if place + 1 < symbols.count {
                setPair(at: place, next: symbols[place + 1], table)
            } else {
                ranks[place] = TokenizerTables.none
            }
            if place > 0 { setPair(at: place - 1, next: symbols[place], table) }
        }
    }

    // MARK: Long words

    private mutating func mergeLong(_ table: Span<UInt32>) {
        let count = symbols.count
        next.removeAll(keepingCapacity: true)
        previous.removeAll(keepingCapacity: true)
        heap.removeAll(keepingCapacity: true)
        for index in 0..<count {
            next.append(index + 1 < count ? UInt32(index + 1) : TokenizerTables.none)
            previous.append(index > 0 ? UInt32(index - 1) : TokenizerTables.none)
            if ranks[index] != TokenizerTables.none { heap.append(key(at: index)) }
        }
        for index in stride(from: heap.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
        while let key = popLowest() {
            let place = Int(key & 0xFFFF_FFFF)
            if ranks[place] == UInt32(truncatingIfNeeded: key >> 32) { mergePair(at: place, table) }
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
        symbols[place] = results[place]
        ranks[removed] = TokenizerTables.none
        ranks[place] = TokenizerTables.none
        next[place] = next[removed]
        if next[place] != TokenizerTables.none {
            let following = Int(next[place])
            previous[following] = UInt32(place)
            setPair(at: place, next: symbols[following], table)
            if ranks[place] != TokenizerTables.none { push(key(at: place)) }
        }
        if previous[place] != TokenizerTables.none {
            let preceding = Int(previous[place])
            setPair(at: preceding, next: symbols[place], table)
            if ranks[preceding] != TokenizerTables.none { push(key(at: preceding)) }
        }
    }

    private func key(at index: Int) -> UInt64 { UInt64(ranks[index]) << 32 | UInt64(index) }

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
