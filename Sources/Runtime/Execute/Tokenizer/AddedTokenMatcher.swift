import LatheFormat

/// A stretch of a text: plain, or matched by an added token.
struct TextPiece {
    static let plain: Int32 = -1

    var range: Range<Int>
    /// The id of the added token, or `plain`.
    var id: Int32
}

/// Finds the added tokens of one trie in a text: from the left, at each place the longest, none overlapping the last.
struct AddedTokenMatcher: Sendable {
    private let nodes: WordTable
    private let kinds: ByteView
    /// The node that begins with a byte, 0 if none does.
    private let roots: [UInt32]

    /// - Parameters:
    ///   - nodes: a validated trie.
    ///   - kinds: of all ids.
    init(nodes: WordTable, kinds: ByteView) {
        self.nodes = nodes
        self.kinds = kinds
        var roots = [UInt32](repeating: 0, count: 256)
        for child in nodes[1]..<nodes[1] + nodes[2] { roots[Int(nodes[Int(child) * 4] & 0xFF)] = child }
        self.roots = roots
    }

    var isEmpty: Bool { nodes[2] == 0 }

    /// Cuts `range` of `text` at the added tokens in it.
    ///
    /// As Hugging Face tokenizers does it, to the letter where it is odd: a match that fails as a single word is passed over
    /// whole, and a token may begin in white space that the one before it has already stripped.
    func split(_ text: Span<UInt8>, in range: Range<Int>, into pieces: inout [TextPiece]) {
        var plainStart = range.lowerBound
        var index = range.lowerBound
        while index < range.upperBound {
            let root = roots[Int(text[index])]
            guard root != 0, let match = longestMatch(text, at: index, end: range.upperBound, root: root) else {
                index += 1
                continue
            }
            var matched = index..<index + match.length
            index = matched.upperBound
            let kind = TokenKind(rawValue: kinds[Int(match.id)])
            if kind.contains(.singleWord) && !standsAlone(matched, text, in: range) { continue }
            if kind.contains(.stripsLeft) { matched = strippingLeft(matched, text, from: plainStart) }
            if kind.contains(.stripsRight) { matched = strippingRight(matched, text, to: range.upperBound) }
            if plainStart < matched.lowerBound {
                pieces.append(TextPiece(range: plainStart..<matched.lowerBound, id: TextPiece.plain))
            }
            pieces.append(TextPiece(range: matched, id: Int32(match.id)))
            plainStart = matched.upperBound
        }
        if plainStart < range.upperBound {
            pieces.append(TextPiece(range: plainStart..<range.upperBound, id: TextPiece.plain))
        }
    }

    /// The id of the token spelled exactly so.
    func id(of text: Span<UInt8>) -> Int32? {
        guard text.count > 0, roots[Int(text[0])] != 0 else { return nil }
        let match = longestMatch(text, at: 0, end: text.count, root: roots[Int(text[0])])
        return match?.length == text.count ? match.map { Int32($0.id) } : nil
    }

    private func longestMatch(
        _ text: Span<UInt8>, at start: Int, end: Int, root: UInt32
    ) -> (id: UInt32, length: Int)? {
        var node = Int(root)
        var length = 1
        var best: (id: UInt32, length: Int)?
        let limit = min(end - start, TokenizerTables.maximumAddedTokenLength)
        while true {
            let id = nodes[node * 4 + 3]
            if id != TokenizerTables.none { best = (id, length) }
            guard length < limit, let child = child(of: node, text[start + length]) else { return best }
            node = child
            length += 1
        }
    }

    /// By halving: the children stand in the order of their bytes.
    private func child(of node: Int, _ byte: UInt8) -> Int? {
        var low = Int(nodes[node * 4 + 1])
        var high = low + Int(nodes[node * 4 + 2])
        while low < high {
            let middle = (low + high) / 2
            let found = nodes[middle * 4]
            if found == UInt32(byte) { return middle }
            if found < UInt32(byte) { low = middle + 1 } else { high = middle }
        }
        return nil
    }

    // MARK: Conditions

    private func standsAlone(_ match: Range<Int>, _ text: Span<UInt8>, in range: Range<Int>) -> Bool {
        let classes = UnicodeClasses.shared
        if match.lowerBound > range.lowerBound {
            let left = classes.character(in: text, before: match.lowerBound, start: range.lowerBound)
            if left.class.isWord { return false }
        }
        if match.upperBound < range.upperBound {
            let right = classes.character(in: text, at: match.upperBound, end: range.upperBound)
            if right.class.isWord { return false }
        }
        return true
    }

    /// White space to the left joins the match, back to `limit`, where the text was already given away.
    private func strippingLeft(_ match: Range<Int>, _ text: Span<UInt8>, from limit: Int) -> Range<Int> {
        var start = match.lowerBound
        while start > limit {
            let left = UnicodeClasses.shared.character(in: text, before: start, start: limit)
            guard left.class == .space else { break }
            start -= left.length
        }
        return max(start, min(limit, match.upperBound))..<match.upperBound
    }

    private func strippingRight(_ match: Range<Int>, _ text: Span<UInt8>, to limit: Int) -> Range<Int> {
        var end = match.upperBound
        while end < limit {
            let right = UnicodeClasses.shared.character(in: text, at: end, end: limit)
            guard right.class == .space else { break }
            end += right.length
        }
        return match.lowerBound..<end
    }
}
