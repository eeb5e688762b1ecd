/// GPT-2's pre-tokenizer by hand:
///
///     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// The first alternative that matches wins, so a contraction comes before a run of symbols; the last two together mean:
/// a run of white space leaves its last character to what follows, unless it has only one or nothing follows.
struct PreTokenizer {
    private let classes = UnicodeClasses.shared

    /// Where the word that begins at `start` of UTF-8 text ends; the text ends at `end`, behind `start`.
    @inline(__always)
    func endOfWord(in text: Span<UInt8>, from start: Int, end: Int) -> Int {
        if text[start] == UInt8(ascii: "'") {
            let length = contraction(in: text, at: start, end: end)
            if length > 0 { return start + length }
        }
        var (kind, length) = classes.character(in: text, at: start, end: end)
        var index = start
        if text[start] == UInt8(ascii: " ") {
            // The optional space in front of a word; at the end of the text it is white space like any other.
            guard start + 1 < end else { return end }
            let next = classes.character(in: text, at: start + 1, end: end)
            if next.class == .space { return endOfSpace(in: text, from: start, end: end) }
            (kind, length) = next
            index = start + 1
        }
        index += length
        switch kind {
        case .space: return endOfSpace(in: text, from: start, end: end)
        case .letter: return endOfLetters(in: text, from: index, end: end)
        case .number, .numberWord:
            while index < end {
                let next = classes.character(in: text, at: index, end: end)
                guard next.class == .number || next.class == .numberWord else { break }
                index += next.length
            }
        case .other, .otherWord:
            while index < end {
                let next = classes.character(in: text, at: index, end: end)
                guard next.class == .other || next.class == .otherWord else { break }
                index += next.length
            }
        }
        return index
    }

    /// The length of the contraction at an apostrophe, 0 if there is none. Lower case only, ASCII apostrophe only.
    private func contraction(in text: Span<UInt8>, at apostrophe: Int, end: Int) -> Int {
        guard apostrophe + 1 < end else { return 0 }
        let first = text[apostrophe + 1]
        switch first {
        case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return 2
        default: break
        }
        guard apostrophe + 2 < end else { return 0 }
        switch (first, text[apostrophe + 2]) {
        case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")),
            (UInt8(ascii: "l"), UInt8(ascii: "l")):
            return 3
        default: return 0
        }
    }

    @inline(__always)
    private func endOfLetters(in text: Span<UInt8>, from start: Int, end: Int) -> Int {
        var index = start
        while index < end {
            let byte = text[index]
            if byte < 0x80 {
                // The ASCII letters, without a look at the table: most of most texts.
                guard (byte | 0x20) &- UInt8(ascii: "a") < 26 else { break }
                index += 1
            } else {
                let next = classes.character(in: text, at: index, end: end)
                guard next.class == .letter else { break }
                index += next.length
            }
        }
        return index
    }

    private func endOfSpace(in text: Span<UInt8>, from start: Int, end: Int) -> Int {
        var index = start
        var last = start
        while index < end {
            let next = classes.character(in: text, at: index, end: end)
            guard next.class == .space else { return last > start ? last : index }
            last = index
            index += next.length
        }
        return end
    }
}
