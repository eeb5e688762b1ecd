/// What the pre-tokenizer and the added tokens need to know of a character, as Unicode 16.0 has it.
///
/// One copy for the process, unpacked at first use (44 KB).
struct UnicodeClasses: Sendable {
    /// The raw values are those that `scripts/generate_unicode_classes.py` writes.
    enum Class: UInt8, Sendable {
        case other
        /// Neither letter nor number, yet `\w`: a mark, a connector, a letter-like symbol.
        case otherWord
        /// `\p{L}`, always `\w` too.
        case letter
        /// `\p{N}` but not `\w`: ½.
        case number
        case numberWord
        /// White_Space.
        case space

        var isWord: Bool {
            switch self {
            case .otherWord, .letter, .numberWord: true
            case .other, .number, .space: false
            }
        }
    }

    static let shared = UnicodeClasses()

    /// For each 256 code points which block of `classes` is theirs.
    private let blocks: [UInt8]
    private let classes: [Class]

    private init() {
        let indices = Array(Self.packedBlocks.utf8)
        blocks = stride(from: 0, to: indices.count, by: 2).map { (indices[$0] - 0x30) << 6 | (indices[$0 + 1] - 0x30) }
        var classes: [Class] = []
        classes.reserveCapacity(2 * Self.packedClasses.utf8.count)
        for pair in Self.packedClasses.utf8 {
            classes.append(Class(rawValue: (pair - 0x30) & 7) ?? .other)
            classes.append(Class(rawValue: (pair - 0x30) >> 3) ?? .other)
        }
        self.classes = classes
    }

    @inline(__always)
    subscript(code: UInt32) -> Class { classes[Int(blocks[Int(code >> 8)]) << 8 | Int(code & 0xFF)] }

    /// The class and the length in bytes of the character at `index` of UTF-8 text that ends at `end`.
    ///
    /// The text is well-formed, but a hostile table of added tokens may have cut it in mid-character: such a piece is
    /// read as symbols of one byte.
    @inline(__always)
    func character(in text: Span<UInt8>, at index: Int, end: Int) -> (class: Class, length: Int) {
        let first = UInt32(text[index])
        if first < 0x80 { return (self[first], 1) }
        if first >= 0xC0 && first < 0xE0 && end - index >= 2 {
            return (self[(first & 0x1F) << 6 | UInt32(text[index + 1] & 0x3F)], 2)
        }
        if first >= 0xE0 && first < 0xF0 && end - index >= 3 {
            let code = (first & 0x0F) << 12 | UInt32(text[index + 1] & 0x3F) << 6 | UInt32(text[index + 2] & 0x3F)
            return (self[code], 3)
        }
        if first >= 0xF0 && first < 0xF5 && end - index >= 4 {
            let upper = (first & 0x07) << 18 | UInt32(text[index + 1] & 0x3F) << 12
            let code = upper | UInt32(text[index + 2] & 0x3F) << 6 | UInt32(text[index + 3] & 0x3F)
            return (code < 0x11_0000 ? self[code] : .other, 4)
        }
        return (.other, 1)
    }

    /// The character that ends at `index`, in text that begins at `start`.
    func character(in text: Span<UInt8>, before index: Int, start: Int) -> (class: Class, length: Int) {
        var first = index - 1
        while first > start && index - first < 4 && text[first] & 0xC0 == 0x80 { first -= 1 }
        let (kind, length) = character(in: text, at: first, end: index)
        return length == index - first ? (kind, length) : (.other, 1)
    }
}
