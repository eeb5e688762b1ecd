import LatheFormat

/// Collects the tensors and settings of `TokenizerTables`; each tensor is padded with zeros to 64 bytes.
struct TableWriter {
    private(set) var tables = TokenizerTables(tensors: [], settings: [:])

    subscript(setting: TokenizerTables.Setting) -> String? {
        get { tables.settings[setting.rawValue] }
        set { tables.settings[setting.rawValue] = newValue }
    }

    mutating func add(_ name: TokenizerTables.Name, _ bytes: [UInt8]) {
        precondition(name.elementType == .u8)
        append(name, bytes)
    }

    mutating func add(_ name: TokenizerTables.Name, _ words: [UInt32]) {
        precondition(name.elementType == .u32)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(words.count * 4 + 64)
        for word in words {
            for shift: UInt32 in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
        }
        append(name, bytes)
    }

    private mutating func append(_ name: TokenizerTables.Name, _ bytes: [UInt8]) {
        let padding = [UInt8](repeating: 0, count: (64 - bytes.count % 64) % 64)
        tables.tensors.append((name.rawValue, ByteView(copying: bytes + padding)))
    }
}

/// Lays out a hash table with open addressing: keys in their order, each in the first free slot from its own on.
struct HashIndex<Key: FixedWidthInteger> {
    private var keys: [Key] = []
    private let place: String

    /// - Parameter place: where the keys come from, for messages.
    init(place: String) { self.place = place }

    /// - Precondition: `key` has not been added before and is not `Key.max`, which marks free slots.
    mutating func add(_ key: Key) { keys.append(key) }

    /// The slots, and how far behind its own slot a key stands at most.
    ///
    /// A table is two thirds full, or less full if keys would stand too far.
    /// - Throws: if keys crowd even then, as only keys chosen for that purpose do.
    func layout(_ slot: (Key, Int) -> Int) throws(LatheError) -> (slots: [Key], probes: Int) {
        var capacity = keys.count + keys.count / 2 + 1
        while capacity <= 16 * keys.count + 16 {
            var slots = [Key](repeating: Key.max, count: capacity)
            var probes = 0
            for key in keys {
                var place = slot(key, capacity)
                var distance = 0
                while slots[place] != Key.max {
                    place = place + 1 == capacity ? 0 : place + 1
                    distance += 1
                }
                slots[place] = key
                probes = max(probes, distance)
            }
            if probes <= TokenizerTables.maximumProbes { return (slots, probes) }
            capacity += capacity / 2
        }
        throw LatheError(.corrupt, "\(place): too many entries have the same hash; no real vocabulary does.")
    }
}

/// The trie of a set of added tokens, as `TokenizerTables` has it: breadth first, so that children stand together.
struct AddedTokenTrie {
    let words: [UInt32]

    init(_ tokens: [(id: Int, content: [UInt8])]) {
        struct Node {
            var byte: UInt8 = 0
            var children: [Int] = []
            var id: UInt32 = TokenizerTables.none
        }
        var nodes = [Node()]
        for token in tokens {
            var node = 0
            for byte in token.content {
                if let child = nodes[node].children.first(where: { nodes[$0].byte == byte }) {
                    node = child
                } else {
                    nodes.append(Node(byte: byte))
                    nodes[node].children.append(nodes.count - 1)
                    node = nodes.count - 1
                }
            }
            nodes[node].id = UInt32(token.id)
        }
        var order = [0]
        var words: [UInt32] = []
        var next = 0
        while next < order.count {
            let node = nodes[order[next]]
            let children = node.children.sorted { nodes[$0].byte < nodes[$1].byte }
            words += [UInt32(node.byte), UInt32(order.count), UInt32(children.count), node.id]
            order += children
            next += 1
        }
        self.words = words
    }
}
