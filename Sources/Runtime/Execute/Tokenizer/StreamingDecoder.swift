/// Decodes ids one at a time and gives out only whole characters: what it has given, joined, is what `decode` makes of all
/// ids together.
///
///     var decoder = StreamingDecoder(tokenizer)
///     for await id in ids { print(decoder.append(id), terminator: "") }
///     print(decoder.finish())
public struct StreamingDecoder: Sendable {
    private let tokenizer: Tokenizer
    /// The beginning of a character whose end has not come yet: at most three bytes between calls.
    private var pending: [UInt8] = []
    private var isFirst = true

    public init(_ tokenizer: Tokenizer) { self.tokenizer = tokenizer }

    /// The text that `id` completes; empty while it ends inside a character. An id that the vocabulary does not have adds
    /// nothing: a model may have more rows than its tokenizer has tokens.
    public mutating func append(_ id: Int32) -> String {
        guard tokenizer.isKnown(id) else { return "" }
        tokenizer.append(id, isFirst: &isFirst, to: &pending)
        let whole = pending.count - Self.unfinishedLength(pending)
        let text = String(decoding: pending[..<whole], as: UTF8.self)
        pending.removeFirst(whole)
        return text
    }

    /// What is left when no id will follow: nothing, or U+FFFD for the character that was never finished. The decoder may be
    /// used anew.
    public mutating func finish() -> String {
        defer {
            pending.removeAll()
            isFirst = true
        }
        return String(decoding: pending, as: UTF8.self)
    }

    /// How many bytes at the end are the beginning of a character that more bytes could still complete
    /// (Unicode standard, table 3-7).
    private static func unfinishedLength(_ bytes: [UInt8]) -> Int {
        for length in 1...3 where length <= bytes.count {
            let tail = bytes[(bytes.count - length)...]
            let first = bytes[bytes.count - length]
            if first & 0xC0 == 0x80 { continue }
            let needed =
                switch first {
                case 0xC2...0xDF: 2
                case 0xE0...0xEF: 3
                case 0xF0...0xF4: 4
                default: 0
                }
            guard needed > length else { return 0 }
            guard let second = tail.dropFirst().first else { return length }
            let isBegun =
                switch first {
                case 0xE0: second >= 0xA0
                case 0xED: second <= 0x9F
                case 0xF0: second >= 0x90
                case 0xF4: second <= 0x8F
                default: true
                }
            return isBegun ? length : 0
        }
        return 0
    }
}
