/// Where a sorted list of keys is cut: every key below `key` goes, and of those equal to it the first `ties`.
struct SelectionCut: Hashable {
    let key: UInt32
    private(set) var ties: Int

    /// - Returns: whether this key goes; asked once for each, in their order.
    @inline(__always)
    mutating func takes(_ candidate: UInt32) -> Bool {
        let isTie = candidate == key && ties > 0
        ties -= isTie ? 1 : 0
        return candidate < key || isTie
    }

    /// The cut that takes the `count` least of `keys`.
    init(taking count: Int, of keys: Span<UInt32>) {
        var search = SelectionSearch(taking: count)
        while !search.isDone {
            search.count(keys)
            search.descend()
        }
        self = search.cut
    }

    fileprivate init(key: UInt32, ties: Int) {
        self.key = key
        self.ties = ties
    }
}

/// Finds where to cut keys that need not be in memory together, byte by byte from the top (radix selection): count all of
/// them, descend, and again, until done.
struct SelectionSearch {
    // The cut's bytes above `shift`, and how many of the keys with just these bytes are taken.
    private var prefix: UInt32 = 0
    private var remaining: Int
    private var shift: UInt32 = 24
    private var histogram = [Int](repeating: 0, count: 256)
    private(set) var isDone = false

    /// Rounds of counting.
    static let rounds = 4

    /// - Parameter count: at most as many as there are keys.
    init(taking count: Int) { remaining = count }

    mutating func count(_ keys: Span<UInt32>) {
        let (prefix, shift) = (prefix, shift)
        var histogram = histogram.mutableSpan
        for index in keys.indices where shift == 24 || keys[index] >> (shift + 8) == prefix >> (shift + 8) {
            histogram[Int(keys[index] >> shift & 0xFF)] += 1
        }
    }

    /// To the next byte, when every key has been counted.
    mutating func descend() {
        precondition(!isDone)
        var digit = 0
        while digit < 255, remaining > histogram[digit] {
            remaining -= histogram[digit]
            digit += 1
        }
        precondition(remaining <= histogram[digit], "more is taken than there is")
        prefix |= UInt32(digit) << shift
        isDone = shift == 0
        if !isDone { shift -= 8 }
        for index in histogram.indices { histogram[index] = 0 }
    }

    var cut: SelectionCut {
        precondition(isDone)
        return SelectionCut(key: prefix, ties: remaining)
    }
}

/// The ways to choose the weights that go. Among equal scores the first ones go, so that results are the same always.
enum Selection {
    /// The number of zeros among `count` weights: the nearest to what the share makes.
    static func zeros(_ sparsity: Double, of count: Int) -> Int { Int((sparsity * Double(count)).rounded()) }

    /// Takes what `cut` says, and uses its ties up.
    /// - Parameter first: the weight of the matrix that the scores begin with, here as below.
    static func apply(_ cut: inout SelectionCut, _ scores: WeightScores, at first: Int, _ mask: inout WeightMask) {
        scores.withKeys { apply(&cut, $0, 0..<scores.count, at: first, &mask) }
    }

    /// Takes the least of each output.
    static func rows(_ scores: WeightScores, sparsity: Double, at first: Int, _ mask: inout WeightMask) {
        let count = zeros(sparsity, of: scores.depth)
        scores.withKeys { keys in
            for row in 0..<scores.rows {
                let range = row * scores.depth..<(row + 1) * scores.depth
                var cut = SelectionCut(taking: count, of: keys.extracting(range))
                apply(&cut, keys, range, at: first, &mask)
            }
        }
    }

    private static func apply(
        _ cut: inout SelectionCut, _ keys: Span<UInt32>, _ range: Range<Int>, at first: Int, _ mask: inout WeightMask
    ) {
        for index in range {
            // What is zero already is not kept, even where there are more zeros than were asked for.
            let isTaken = cut.takes(keys[index])
            mask.prune(first + index, if: isTaken || keys[index] == 0)
        }
    }

    /// Takes the least of each `size` successive inputs, so that `kept` stay; `size` must divide the depth.
    static func groups(_ scores: WeightScores, kept: Int, size: Int, at first: Int, _ mask: inout WeightMask) {
        precondition(scores.depth % size == 0)
        scores.withKeys { keys in
            for start in stride(from: 0, to: keys.count, by: size) {
                for index in start..<start + size {
                    var rank = 0
                    for other in start..<start + size {
                        let isBefore = keys[other] < keys[index] || (keys[other] == keys[index] && other < index)
                        rank += isBefore ? 1 : 0
                    }
                    mask.prune(first + index, if: rank < size - kept || keys[index] == 0)
                }
            }
        }
    }
}
