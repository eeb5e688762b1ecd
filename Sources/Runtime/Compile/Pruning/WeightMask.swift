/// One bit for each weight of a matrix [n, k], row after row: set where the weight stays.
struct WeightMask: Sendable, Hashable {
    let count: Int
    private(set) var words: [UInt64]

    static func byteCount(_ count: Int) -> Int { (count + 63) / 64 * 8 }

    /// Everything stays.
    init(count: Int) {
        self.count = count
        words = [UInt64](repeating: .max, count: (count + 63) / 64)
        if count % 64 != 0 { words[words.count - 1] = (1 << UInt64(count % 64)) - 1 }
    }

    subscript(index: Int) -> Bool {
        get {
            precondition(index >= 0 && index < count)
            return words[index >> 6] >> UInt64(index & 63) & 1 != 0
        }
        set {
            precondition(index >= 0 && index < count)
            let bit: UInt64 = 1 << UInt64(index & 63)
            if newValue { words[index >> 6] |= bit } else { words[index >> 6] &= ~bit }
        }
    }

    /// Takes the weight away if `isPruned`; without a branch, because no processor can guess it.
    @inline(__always)
    mutating func prune(_ index: Int, if isPruned: Bool) {
        words[index >> 6] &= ~((isPruned ? 1 : 0) << UInt64(index & 63))
    }

    /// The weights that stay.
    var keptCount: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }
}
