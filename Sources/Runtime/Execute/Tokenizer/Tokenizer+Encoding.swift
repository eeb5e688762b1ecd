public import LatheFormat

extension Tokenizer {
    /// The ids of `text`: added tokens in it are recognized, and the post-processor's tokens put around it.
    ///
    /// Time is near-linear in the length whatever the text. Traps on texts of 4 GiB and more.
    public func encode(_ text: String) -> [Int32] { encode(text.utf8Span.span) }

    /// The ids of UTF-8 text.
    ///
    /// - Throws: `invalidRequest`, with the offset, if the bytes are not well-formed UTF-8.
    public func encode(bytes: [UInt8]) throws(LatheError) -> [Int32] {
        do {
            _ = try UTF8Span(validating: bytes.span)
        } catch {
            throw LatheError(
                .invalidRequest,
                "The text is not valid UTF-8 at byte \(error.byteOffsets.lowerBound); encode it as UTF-8.")
        }
        return encode(bytes.span)
    }

    private func encode(_ text: Span<UInt8>) -> [Int32] {
        precondition(text.count < Int(UInt32.max), "a text of 4 GiB")
        let pieces = pieces(of: text)
        var encoder = TextEncoder(storage, textLength: text.count)
        encoder.ids.append(contentsOf: storage.before)
        if storage.addsPrefixSpace {
            let (spaced, ranges) = addingPrefixSpaces(to: pieces, of: text)
            encoder.encode(ranges, of: spaced.span)
        } else {
            encoder.encode(pieces, of: text)
        }
        encoder.ids.append(contentsOf: storage.after)
        return encoder.ids
    }

    /// Cuts the text at its added tokens: the verbatim ones first, in what is left the normalized ones.
    private func pieces(of text: Span<UInt8>) -> [TextPiece] {
        let all = 0..<text.count
        if all.isEmpty { return [] }
        var pieces = [TextPiece(range: all, id: TextPiece.plain)]
        for matcher in [storage.verbatim, storage.normalized] where !matcher.isEmpty {
            var parts: [TextPiece] = []
            for piece in pieces {
                if piece.id == TextPiece.plain {
                    matcher.split(text, in: piece.range, into: &parts)
                } else {
                    parts.append(piece)
                }
            }
            pieces = parts
        }
        return pieces
    }

    /// A copy of the plain pieces, each beginning with a space.
    private func addingPrefixSpaces(
        to pieces: [TextPiece], of text: Span<UInt8>
    ) -> (text: [UInt8], pieces: [TextPiece]) {
        var spaced: [UInt8] = []
        spaced.reserveCapacity(text.count + pieces.count)
        var moved: [TextPiece] = []
        for var piece in pieces {
            if piece.id == TextPiece.plain {
                let start = spaced.count
                if text[piece.range.lowerBound] != UInt8(ascii: " ") { spaced.append(UInt8(ascii: " ")) }
                for index in piece.range { spaced.append(text[index]) }
                piece.range = start..<spaced.count
            }
            moved.append(piece)
        }
        return (spaced, moved)
    }
}

/// The state of encoding one text.
private struct TextEncoder {
    var ids: [Int32] = []
    private let storage: TokenizerStorage
    private var cache: WordCache
    private var merger: PairMerger

    init(_ storage: TokenizerStorage, textLength: Int) {
        self.storage = storage
        cache = WordCache(textLength: textLength)
        merger = PairMerger(capacity: storage.merges.count / 4, probes: storage.mergeProbes)
        // English takes a token for every four bytes or so.
        ids.reserveCapacity(textLength / 4 + 16)
    }

    mutating func encode(_ pieces: [TextPiece], of text: Span<UInt8>) {
        // Held by a constant, the classes are not retained anew for each word.
        let splitter = PreTokenizer()
        let splitsWords = storage.splitsWords
        storage.merges.withSpan { table in
            for piece in pieces {
                if piece.id != TextPiece.plain {
                    ids.append(piece.id)
                } else if splitsWords {
                    var index = piece.range.lowerBound
                    while index < piece.range.upperBound {
                        let end = splitter.endOfWord(in: text, from: index, end: piece.range.upperBound)
                        encodeWord(index..<end, of: text, table)
                        index = end
                    }
                } else {
                    encodeWord(piece.range, of: text, table)
                }
            }
        }
    }

    @inline(__always)
    private mutating func encodeWord(_ word: Range<Int>, of text: Span<UInt8>, _ table: Span<UInt32>) {
        guard WordCache.accepts(length: word.count) else { return mergeWord(word, of: text, table) }
        let hash = WordCache.hash(text, word)
        if cache.append(word, of: text, hash: hash, to: &ids) { return }
        let start = ids.count
        mergeWord(word, of: text, table)
        cache.insert(word, hash: hash, output: start..<ids.count)
    }

    @inline(never)
    private mutating func mergeWord(_ word: Range<Int>, of text: Span<UInt8>, _ table: Span<UInt32>) {
        if storage.ignoresMerges && word.count <= TokenizerTables.maximumTokenLength {
            if let id = storage.id(of: word.map { text[$0] }, literal: false) {
                ids.append(id)
                return
            }
        }
        merger.begin(length: word.count)
        var afterUnknown = false
        for index in word {
            let symbol = storage.byteTokens[Int(text[index])]
            if symbol != TokenizerTables.none {
                merger.append(symbol)
            } else if let unknown = storage.unknown, !(afterUnknown && storage.fusesUnknown) {
                merger.append(unknown)
            }
            afterUnknown = symbol == TokenizerTables.none
        }
        merger.merge(by: table, into: &ids)
    }
}
