import LatheFormat

/// Checks a tokenizer as a whole and lays it out as `TokenizerTables`. The same tokenizer always gives the same bytes.
struct TokenizerTableBuilder {
    private struct Token {
        var content: String
        var kind: TokenKind
        /// What the token decodes to.
        var bytes: [UInt8]
    }

    private let description: TokenizerDescription
    /// Ids must lie below it.
    private let limit: Int?
    /// By id; nil where an id is unused.
    private var tokens: [Token?] = []
    /// What the files say and is not followed, one sentence each.
    private(set) var warnings: [String] = []
    /// By the ids of the added tokens: whether they are searched for in normalized text.
    private var isNormalized: [Int: Bool] = [:]

    /// - Parameter limit: the vocabulary size of the model, nil if unknown.
    init(_ description: TokenizerDescription, limit: Int?) throws(LatheError) {
        self.description = description
        self.limit = limit
        try addVocabulary()
        try addAddedTokens()
    }

    // MARK: Tokens

    private mutating func addVocabulary() throws(LatheError) {
        let place = description.vocabularyPlace
        let members = description.vocabulary.members
        if members.isEmpty { throw LatheError(.corrupt, "\(place) is empty.") }
        for member in members {
            let id = try member.value.int(at: "\(place): the id of \(quoted(member.key))")
            try set(id, try token(member.key, kind: .used, place: place), place: place)
        }
    }

    private func token(_ content: String, kind: TokenKind, place: String) throws(LatheError) -> Token {
        let length = content.utf8.count
        guard length <= TokenizerTables.maximumTokenLength else {
            throw LatheError(
                .corrupt,
                "\(place): the token \(quoted(content, limit: 20)) has \(length) bytes; at most "
                    + "\(TokenizerTables.maximumTokenLength) are allowed.")
        }
        if let bytes = ByteAlphabet.bytes(spelledBy: content.utf8) {
            return Token(content: content, kind: kind, bytes: bytes)
        }
        return Token(content: content, kind: kind.union(.literal), bytes: Array(content.utf8))
    }

    private mutating func set(_ id: Int, _ token: Token, place: String) throws(LatheError) {
        // Vocabularies have holes, but an id far beyond the number of tokens is a mistake, and would cost memory.
        let most = 2 * (description.vocabulary.count + description.added.count) + 1024
        let bound = min(limit ?? most, most, TokenizerTables.maximumTokens)
        guard id < bound else {
            let reason =
                limit == bound
                ? "the model's vocabulary has only \(bound); remove the token, or give the model rows for it"
                : "ids must lie below \(bound)"
            throw LatheError(.corrupt, "\(place): the token \(quoted(token.content)) has the id \(id), but \(reason).")
        }
        while tokens.count <= id { tokens.append(nil) }
        if let other = tokens[id], !other.content.utf8.elementsEqual(token.content.utf8) {
            throw LatheError(
                .corrupt,
                "\(place): the id \(id) belongs to both \(quoted(other.content)) and \(quoted(token.content)); ids must be "
                    + "unique.")
        }
        tokens[id] = token
    }

    private func vocabularyId(_ content: String) throws(LatheError) -> Int? {
        try description.vocabulary[content]?.int(at: description.vocabularyPlace)
    }

    /// Added tokens get ids as Hugging Face tokenizers gives them: that of the vocabulary if it has the content, else the
    /// next one behind the vocabulary, whatever the file states. A stated id that another token has is refused.
    private mutating func addAddedTokens() throws(LatheError) {
        let place = description.addedPlace
        var nextId = description.vocabulary.count
        var given: [[UInt8]: Int] = [:]
        for added in description.added where !added.content.isEmpty {
            let content = Array(added.content.utf8)
            let id: Int
            let inVocabulary = try vocabularyId(added.content)
            if let known = given[content] ?? inVocabulary {
                id = known
            } else {
                id = nextId
                nextId += 1
            }
            given[content] = id
            if let stated = added.statedId, stated != id {
                if stated < tokens.count, let other = tokens[stated], inVocabulary == nil {
                    throw LatheError(
                        .corrupt,
                        "\(place): the id \(stated) belongs to both \(quoted(other.content)) and the added token "
                            + "\(quoted(added.content)); ids must be unique.")
                }
                warnings.append(
                    "\(place): the added token \(quoted(added.content)) is given the id \(id), as Hugging Face gives it, not "
                        + "\(stated).")
            }
            guard content.count <= TokenizerTables.maximumAddedTokenLength else {
                throw LatheError(
                    .corrupt,
                    "\(place): the added token \(quoted(added.content, limit: 20)) has \(content.count) bytes; at most "
                        + "\(TokenizerTables.maximumAddedTokenLength) are allowed.")
            }
            var kind: TokenKind = [.used, .added]
            if added.isSpecial { kind.insert(.special) }
            if added.stripsLeft { kind.insert(.stripsLeft) }
            if added.stripsRight { kind.insert(.stripsRight) }
            if added.isSingleWord { kind.insert(.singleWord) }
            try set(id, try token(added.content, kind: kind, place: place), place: place)
            // The last description of a token holds.
            isNormalized[id] = added.isNormalized
        }
    }

    // MARK: Tables

    func tables() throws(LatheError) -> TokenizerTables {
        var output = TableWriter()
        output[.kind] = TokenizerTables.kind
        output[.tokens] = String(tokens.count)
        try writeVocabulary(to: &output)
        try writeBytesAndUnknown(to: &output)
        try writeMerges(to: &output)
        writeTrie(.addedVerbatim, .addedVerbatim, isNormalized: false, to: &output)
        writeTrie(.addedNormalized, .addedNormalized, isNormalized: true, to: &output)
        output[.split] = description.splitsWords ? "gpt2" : "none"
        output[.addPrefixSpace] = String(description.addsPrefixSpace)
        output[.ignoreMerges] = String(description.ignoresMerges)
        output[.fuseUnknown] = String(description.fusesUnknown)
        output[.decoder] = description.decoder.rawValue
        output[.before] = try idList(description.before)
        output[.after] = try idList(description.after)
        return output.tables
    }

    private func idList(_ ids: [Int]) throws(LatheError) -> String {
        for id in ids where id >= tokens.count {
            throw LatheError(
                .corrupt, "\(description.source): the template in post_processor adds the id \(id), which no token has."
            )
        }
        return ids.map(String.init).joined(separator: ",")
    }

    private func writeTrie(
        _ name: TokenizerTables.Name, _ setting: TokenizerTables.Setting, isNormalized: Bool,
        to output: inout TableWriter
    ) {
        let ids = self.isNormalized.filter { $0.value == isNormalized }.keys.sorted()
        let trie = AddedTokenTrie(ids.map { (id: $0, content: Array((tokens[$0]?.content ?? "").utf8)) })
        output[setting] = String(trie.words.count / 4)
        output.add(name, trie.words)
    }

    private func writeVocabulary(to output: inout TableWriter) throws(LatheError) {
        var bytes: [UInt8] = []
        var offsets: [UInt32] = [0]
        var index = HashIndex<UInt32>(place: description.vocabularyPlace)
        for (id, token) in tokens.enumerated() {
            bytes += token?.bytes ?? []
            offsets.append(UInt32(bytes.count))
            // Tokens that were only added are no words of the model.
            if let token, description.vocabulary.contains(token.content) { index.add(UInt32(id)) }
        }
        let layout = try index.layout { id, capacity in
            TokenizerHash.slot(of: tokens[Int(id)]?.bytes ?? [], capacity: capacity)
        }
        output[.vocabularyBytes] = String(bytes.count)
        output[.vocabularyCapacity] = String(layout.slots.count)
        output[.vocabularyProbes] = String(layout.probes)
        output.add(.vocabularyBytes, bytes)
        output.add(.vocabularyOffsets, offsets)
        output.add(.vocabularyKinds, tokens.map { $0?.kind.rawValue ?? 0 })
        output.add(.vocabularyIndex, layout.slots)
    }

    private func writeBytesAndUnknown(to output: inout TableWriter) throws(LatheError) {
        var byteTokens: [UInt32] = []
        for spelling in ByteAlphabet.spellings {
            let id = try vocabularyId(String(decoding: spelling, as: UTF8.self))
            byteTokens.append(id.map { UInt32($0) } ?? TokenizerTables.none)
        }
        output.add(.byteTokens, byteTokens)
        output[.unknown] = ""
        guard let unknown = description.unknownToken, byteTokens.contains(TokenizerTables.none) else { return }
        guard let id = try vocabularyId(unknown) else {
            throw LatheError(
                .corrupt,
                "\(description.vocabularyPlace): the unknown token \(quoted(unknown)) is not in the vocabulary, yet some bytes "
                    + "need it.")
        }
        output[.unknown] = String(id)
    }

    private func writeMerges(to output: inout TableWriter) throws(LatheError) {
        var pairs: [UInt64: (rank: UInt32, result: UInt32)] = [:]
        var index = HashIndex<UInt64>(place: description.mergesPlace)
        for (rank, merge) in description.merges.enumerated() {
            let left = try part(merge.left, of: merge, rank)
            let right = try part(merge.right, of: merge, rank)
            let result = try part(merge.left + merge.right, of: merge, rank)
            let key = UInt64(left) << 32 | UInt64(right)
            // Of two equal pairs the later one holds, as in Hugging Face tokenizers.
            if pairs.updateValue((UInt32(rank), result), forKey: key) == nil { index.add(key) }
        }
        let layout = try index.layout { key, capacity in
            TokenizerHash.slot(
                left: UInt32(key >> 32), right: UInt32(truncatingIfNeeded: key), capacity: capacity)
        }
        var words: [UInt32] = []
        words.reserveCapacity(layout.slots.count * 4)
        for key in layout.slots {
            if let merge = pairs[key] {
                words += [UInt32(key >> 32), UInt32(truncatingIfNeeded: key), merge.rank, merge.result]
            } else {
                words += [TokenizerTables.none, 0, 0, 0]
            }
        }
        output[.merges] = String(description.merges.count)
        output[.mergeCapacity] = String(layout.slots.count)
        output[.mergeProbes] = String(layout.probes)
        output.add(.mergeIndex, words)
    }

    private func part(_ content: String, of merge: (left: String, right: String), _ rank: Int) throws(LatheError)
        -> UInt32
    {
        guard let id = try vocabularyId(content) else {
            throw LatheError(
                .corrupt,
                "\(description.mergesPlace): merge \(rank), \(quoted(merge.left)) and \(quoted(merge.right)), needs the token "
                    + "\(quoted(content)), which is not in the vocabulary.")
        }
        return UInt32(id)
    }
}
