import LatheFormat

/// Takes tables and settings out of `TokenizerTables`, trusting nothing in them.
struct TokenizerTableReader {
    let tables: TokenizerTables
    let source: String

    // MARK: Settings

    func setting(_ setting: TokenizerTables.Setting) throws(LatheError) -> String {
        guard let value = tables.settings[setting.rawValue] else {
            throw LatheError(
                .missing, "\(source): the tokenizer's setting \(quoted(setting.rawValue)) is missing; convert it again."
            )
        }
        return value
    }

    func number(
        _ setting: TokenizerTables.Setting, in range: ClosedRange<Int> = 0...Int(UInt32.max)
    ) throws(LatheError) -> Int {
        let text = try self.setting(setting)
        guard let value = Int(text), range.contains(value) else {
            throw corrupt(setting, text, "it must be a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    func choice<Value>(
        _ setting: TokenizerTables.Setting, _ choices: [String: Value]
    ) throws(LatheError) -> Value {
        let text = try self.setting(setting)
        guard let value = choices[text] else {
            throw corrupt(setting, text, "it must be one of \(choices.keys.sorted().joined(separator: ", "))")
        }
        return value
    }

    /// Decimal ids with commas between, none at all if the setting is empty.
    func ids(_ setting: TokenizerTables.Setting, below count: Int) throws(LatheError) -> [Int32] {
        let text = try self.setting(setting)
        var ids: [Int32] = []
        for part in text.split(separator: ",") {
            guard let id = Int32(part), id >= 0, id < count else {
                throw corrupt(setting, text, "it must be ids below \(count)")
            }
            ids.append(id)
        }
        return ids
    }

    func unsupportedKind() -> LatheError {
        let kind = tables.settings[TokenizerTables.Setting.kind.rawValue] ?? ""
        return LatheError(
            .unsupported,
            "\(source): the tokenizer is of kind \(quoted(kind)); this version reads \(quoted(TokenizerTables.kind)).")
    }

    private func corrupt(_ setting: TokenizerTables.Setting, _ text: String, _ wanted: String) -> LatheError {
        LatheError(
            .corrupt, "\(source): the tokenizer's setting \(quoted(setting.rawValue)) is \(quoted(text)); \(wanted).")
    }

    // MARK: Tensors

    func bytes(_ name: TokenizerTables.Name, count: Int) throws(LatheError) -> ByteView {
        guard let view = tables.tensors.first(where: { $0.name == name.rawValue })?.bytes else {
            throw LatheError(.missing, "\(source): the tensor \(quoted(name.rawValue)) of the tokenizer is missing.")
        }
        guard view.count >= count else {
            throw corrupt(name, "it has \(view.count) bytes where the settings ask for \(count)")
        }
        return view.slice(offset: 0, count: count)
    }

    func words(_ name: TokenizerTables.Name, count: Int) throws(LatheError) -> WordTable {
        WordTable(try bytes(name, count: count * 4), count: count)
    }

    func corrupt(_ name: TokenizerTables.Name, _ what: String) -> LatheError {
        LatheError(.corrupt, "\(source): the tensor \(quoted(name.rawValue)) is damaged: \(what).")
    }

    // MARK: Contents

    func checkOffsets(_ offsets: WordTable, end: Int) throws(LatheError) {
        let bad: Int? = offsets.withSpan { words in
            var previous: UInt32 = 0
            for index in 0..<words.count {
                let offset = words[index]
                let length = offset &- previous
                if offset < previous || Int(offset) > end || Int(length) > TokenizerTables.maximumTokenLength {
                    return index
                }
                previous = offset
            }
            return nil
        }
        if let bad {
            throw corrupt(
                .vocabularyOffsets,
                "element \(bad) is \(offsets[bad]); offsets must ascend to at most \(end), in steps of at most "
                    + "\(TokenizerTables.maximumTokenLength)")
        }
    }

    /// Every word is an id or `none`.
    func checkIds(_ table: WordTable, _ name: TokenizerTables.Name, below count: Int) throws(LatheError) {
        let bad: Int? = table.withSpan { words in
            for index in 0..<words.count where words[index] != TokenizerTables.none && words[index] >= count {
                return index
            }
            return nil
        }
        if let bad { throw corrupt(name, "element \(bad) is the id \(table[bad]) where ids lie below \(count)") }
    }

    func checkMerges(_ table: WordTable, ranksBelow ranks: Int, idsBelow count: Int) throws(LatheError) {
        let bad: Int? = table.withSpan { words in
            for slot in stride(from: 0, to: words.count, by: 4) where words[slot] != TokenizerTables.none {
                let isFine =
                    words[slot] < count && words[slot + 1] < count && words[slot + 2] < ranks && words[slot + 3] < count
                if !isFine { return slot }
            }
            return nil
        }
        if let bad {
            throw corrupt(.mergeIndex, "slot \(bad / 4) holds an id beyond \(count) or a rank beyond \(ranks)")
        }
    }

    /// A trie laid out breadth first without gaps: every node but the root is the child of one node before it, so that no
    /// walk is endless, and checking takes one pass.
    func trie(_ name: TokenizerTables.Name, idsBelow count: Int) throws(LatheError) -> WordTable {
        let setting: TokenizerTables.Setting = name == .addedVerbatim ? .addedVerbatim : .addedNormalized
        let nodes = try number(setting, in: 1...Int(UInt32.max) / 4)
        let table = try words(name, count: nodes * 4)
        var firstFree = 1
        for node in 0..<nodes {
            let first = Int(table[node * 4 + 1])
            let children = Int(table[node * 4 + 2])
            let id = table[node * 4 + 3]
            guard table[node * 4] < 256, id == TokenizerTables.none || id < count,
                first == firstFree, first > node, children <= nodes - first
            else { throw corrupt(name, "node \(node) names a byte, children or an id that cannot be") }
            firstFree += children
            for child in first..<firstFree where child > first {
                guard table[child * 4] > table[child * 4 - 4] else {
                    throw corrupt(name, "the children of node \(node) are out of order")
                }
            }
        }
        return table
    }
}
