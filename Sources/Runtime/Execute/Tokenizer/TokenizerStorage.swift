import LatheFormat

/// The validated tables of a tokenizer. The tables may come from a hostile file: whatever passes here cannot lead any
/// later access out of bounds or into an endless search, though it may of course give wrong text.
final class TokenizerStorage: Sendable {
    enum Decoder: Sendable { case bytes, spelling }

    /// N: ids lie below it.
    let count: Int
    let vocabularyBytes: ByteView
    let vocabularyOffsets: WordTable
    let kinds: ByteView
    let vocabularyIndex: WordTable
    let vocabularyProbes: Int
    /// The id of each byte, `TokenizerTables.none` where there is none.
    let byteTokens: [UInt32]
    let merges: WordTable
    let mergeProbes: Int
    let verbatim: AddedTokenMatcher
    let normalized: AddedTokenMatcher

    let splitsWords: Bool
    let addsPrefixSpace: Bool
    let ignoresMerges: Bool
    let unknown: UInt32?
    let fusesUnknown: Bool
    let decoder: Decoder
    let before: [Int32]
    let after: [Int32]

    init(_ tables: TokenizerTables, source: String) throws(LatheError) {
        let reader = TokenizerTableReader(tables: tables, source: source)
        guard tables.settings[TokenizerTables.Setting.kind.rawValue] == TokenizerTables.kind else {
            throw reader.unsupportedKind()
        }
        count = try reader.number(.tokens, in: 1...TokenizerTables.maximumTokens)

        let bytes = try reader.bytes(.vocabularyBytes, count: try reader.number(.vocabularyBytes))
        vocabularyBytes = bytes
        vocabularyOffsets = try reader.words(.vocabularyOffsets, count: count + 1)
        try reader.checkOffsets(vocabularyOffsets, end: bytes.count)
        kinds = try reader.bytes(.vocabularyKinds, count: count)
        vocabularyProbes = try reader.number(.vocabularyProbes, in: 0...TokenizerTables.maximumProbes)
        let indexCapacity = try reader.number(.vocabularyCapacity, in: 1...4 * TokenizerTables.maximumTokens)
        vocabularyIndex = try reader.words(.vocabularyIndex, count: indexCapacity)
        try reader.checkIds(vocabularyIndex, .vocabularyIndex, below: count)

        let byteTokens = try reader.words(.byteTokens, count: 256)
        try reader.checkIds(byteTokens, .byteTokens, below: count)
        self.byteTokens = (0..<256).map { byteTokens[$0] }

        let mergeCount = try reader.number(.merges, in: 0...TokenizerTables.maximumTokens)
        mergeProbes = try reader.number(.mergeProbes, in: 0...TokenizerTables.maximumProbes)
        let capacity = try reader.number(.mergeCapacity, in: 1...4 * TokenizerTables.maximumTokens)
        merges = try reader.words(.mergeIndex, count: capacity * 4)
        try reader.checkMerges(merges, ranksBelow: mergeCount, idsBelow: count)

        verbatim = AddedTokenMatcher(nodes: try reader.trie(.addedVerbatim, idsBelow: count), kinds: kinds)
        normalized = AddedTokenMatcher(nodes: try reader.trie(.addedNormalized, idsBelow: count), kinds: kinds)

        splitsWords = try reader.choice(.split, ["gpt2": true, "none": false])
        addsPrefixSpace = try reader.choice(.addPrefixSpace, ["true": true, "false": false])
        ignoresMerges = try reader.choice(.ignoreMerges, ["true": true, "false": false])
        fusesUnknown = try reader.choice(.fuseUnknown, ["true": true, "false": false])
        decoder = try reader.choice(.decoder, ["bytes": .bytes, "spelling": .spelling])
        unknown = try reader.ids(.unknown, below: count).first.map { UInt32($0) }
        before = try reader.ids(.before, below: count)
        after = try reader.ids(.after, below: count)
    }

    /// Where the bytes of `id` stand in `vocabularyBytes`.
    func range(of id: Int) -> Range<Int> { Int(vocabularyOffsets[id])..<Int(vocabularyOffsets[id + 1]) }

    /// The id of the token with these bytes; `literal` tells the two kinds of tokens apart, whose bytes may be alike.
    func id(of bytes: some Collection<UInt8>, literal: Bool) -> Int32? {
        let capacity = vocabularyIndex.count
        var slot = TokenizerHash.slot(of: bytes, capacity: capacity)
        for _ in 0...vocabularyProbes {
            let found = vocabularyIndex[slot]
            if found == TokenizerTables.none { return nil }
            let id = Int(found)
            let range = range(of: id)
            if TokenKind(rawValue: kinds[id]).contains(.literal) == literal, range.count == bytes.count,
                zip(range, bytes).allSatisfy({ vocabularyBytes[$0] == $1 })
            {
                return Int32(id)
            }
            slot += 1
            if slot == capacity { slot = 0 }
        }
        return nil
    }
}
