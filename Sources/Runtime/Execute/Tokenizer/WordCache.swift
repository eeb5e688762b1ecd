/// Remembers, within one text, what words became: where the word stood in the text and where its ids begin in the output.
/// Nothing is copied, and the size is bounded: a word replaces the one whose slot it takes.
struct WordCache {
    private struct Entry {
        var hash: UInt32 = 0
        var start: UInt32 = 0
        /// Bytes; 0 marks a free slot.
        var length: UInt32 = 0
        var output: UInt32 = 0
        var outputCount: UInt32 = 0
    }

    /// A power of two of slots, at most 320 KB.
    private var entries: [Entry]
    private let mask: Int

    /// Longer words are not worth a look.
    private static let maximumLength = 64

    init(textLength: Int) {
        var capacity = 64
        while capacity < 16384 && capacity < textLength / 8 { capacity *= 2 }
        entries = [Entry](repeating: Entry(), count: capacity)
        mask = capacity - 1
    }

    static func accepts(length: Int) -> Bool { length <= maximumLength }

    /// FNV-1a in 32 bits, its upper half folded down for the slot.
    @inline(__always)
    static func hash(_ text: Span<UInt8>, _ word: Range<Int>) -> UInt32 {
        var hash: UInt32 = 0x811C_9DC5
        for index in word { hash = (hash ^ UInt32(text[index])) &* 0x0100_0193 }
        return hash ^ hash >> 15
    }

    /// Appends what the word became before; false if it is not remembered.
    @inline(__always)
    func append(_ word: Range<Int>, of text: Span<UInt8>, hash: UInt32, to ids: inout [Int32]) -> Bool {
        let entry = entries[Int(hash) & mask]
        guard entry.hash == hash, Int(entry.length) == word.count else { return false }
        let start = Int(entry.start)
        for offset in 0..<word.count where text[start + offset] != text[word.lowerBound + offset] { return false }
        let output = Int(entry.output)
        for index in output..<output + Int(entry.outputCount) { ids.append(ids[index]) }
        return true
    }

    /// - Parameter output: where the ids of `word` stand.
    @inline(__always)
    mutating func insert(_ word: Range<Int>, hash: UInt32, output: Range<Int>) {
        entries[Int(hash) & mask] = Entry(
            hash: hash, start: UInt32(word.lowerBound), length: UInt32(word.count),
            output: UInt32(output.lowerBound), outputCount: UInt32(output.count))
    }
}
