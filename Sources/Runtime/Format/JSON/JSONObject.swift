/// The members of a JSON object in the order of the file, each key once, found in constant time.
///
/// Keys are compared byte for byte, not by canonical equivalence as `String` does: a vocabulary may well hold both the
/// composed and the decomposed spelling of a letter, and they are two tokens.
package struct JSONObject: Hashable, Sendable {
    package struct Member: Hashable, Sendable {
        package var key: String
        package var value: JSON
    }

    package private(set) var members: [Member] = []

    // Open addressing over a power of two: a slot holds the position in `members` plus one, 0 is free. Empty while a
    // linear search is as fast. At most half full, so that every probe ends.
    private var slots: [UInt32] = []
    private static let linearLimit = 8

    package init() {}

    /// Traps if a key occurs twice.
    package init(_ members: some Sequence<(String, JSON)>) {
        for (key, value) in members {
            precondition(append(key, value), "the key \(quoted(key)) occurs twice")
        }
    }

    package var count: Int { members.count }
    package var isEmpty: Bool { members.isEmpty }

    package subscript(_ key: String) -> JSON? {
        guard let position = position(of: key) else { return nil }
        return members[position].value
    }

    package func contains(_ key: String) -> Bool { position(of: key) != nil }

    /// Adds a member at the end.
    /// - Returns: false, and changes nothing, if the key is already there.
    package mutating func append(_ key: String, _ value: JSON) -> Bool {
        if members.count < Self.linearLimit {
            if position(of: key) != nil { return false }
            members.append(Member(key: key, value: value))
            return true
        }
        if members.count * 2 >= slots.count { rebuildSlots() }
        let slot = slot(of: key)
        if slots[slot] != 0 { return false }
        members.append(Member(key: key, value: value))
        slots[slot] = UInt32(members.count)
        return true
    }

    package static func == (a: JSONObject, b: JSONObject) -> Bool { a.members == b.members }
    package func hash(into hasher: inout Hasher) { hasher.combine(members) }

    // MARK: Lookup

    private func position(of key: String) -> Int? {
        if slots.isEmpty { return members.firstIndex { Self.same($0.key, key) } }
        let found = slots[slot(of: key)]
        return found == 0 ? nil : Int(found) - 1
    }

    /// The slot that holds `key`, or the free one where it belongs.
    private func slot(of key: String) -> Int {
        let mask = slots.count - 1
        var slot = Self.hash(key) & mask
        while slots[slot] != 0, !Self.same(members[Int(slots[slot]) - 1].key, key) { slot = (slot + 1) & mask }
        return slot
    }

    private mutating func rebuildSlots() {
        slots = [UInt32](repeating: 0, count: max(32, slots.count * 2))
        for (position, member) in members.enumerated() { slots[slot(of: member.key)] = UInt32(position + 1) }
    }

    private static func same(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }

    /// Seeded per process by `Hasher`, so that nobody can choose keys that all fall into one slot.
    private static func hash(_ key: String) -> Int {
        var hasher = Hasher()
        var word: UInt64 = 0
        var filled: UInt64 = 0
        for byte in key.utf8 {
            word = word << 8 | UInt64(byte)
            filled += 1
            if filled & 7 == 0 { hasher.combine(word) }
        }
        hasher.combine(word)
        hasher.combine(filled)
        return hasher.finalize()
    }
}

// MARK: - Reading fields

/// Each accessor names `source` and the field when it throws. The `…IfPresent` forms give nil where the field is absent
/// or null; the others say that it is missing.
extension JSONObject {
    package func value(_ key: String, in source: String) throws(LatheError) -> JSON {
        guard let value = self[key], value != .null else {
            throw LatheError(.missing, "\(source): the field \(quoted(key)) is missing.")
        }
        return value
    }

    package func valueIfPresent(_ key: String) -> JSON? {
        guard let value = self[key], value != .null else { return nil }
        return value
    }

    package func string(_ key: String, in source: String) throws(LatheError) -> String {
        try value(key, in: source).string(at: place(key, source))
    }

    package func bool(_ key: String, in source: String) throws(LatheError) -> Bool {
        try value(key, in: source).bool(at: place(key, source))
    }

    /// See `JSON.int(at:minimum:)`: by default a count, which cannot be negative.
    package func int(_ key: String, in source: String, minimum: Int = 0) throws(LatheError) -> Int {
        try value(key, in: source).int(at: place(key, source), minimum: minimum)
    }

    package func double(_ key: String, in source: String) throws(LatheError) -> Double {
        try value(key, in: source).double(at: place(key, source))
    }

    package func array(_ key: String, in source: String) throws(LatheError) -> [JSON] {
        try value(key, in: source).array(at: place(key, source))
    }

    package func object(_ key: String, in source: String) throws(LatheError) -> JSONObject {
        try value(key, in: source).object(at: place(key, source))
    }

    package func stringIfPresent(_ key: String, in source: String) throws(LatheError) -> String? {
        try valueIfPresent(key)?.string(at: place(key, source))
    }

    package func boolIfPresent(_ key: String, in source: String) throws(LatheError) -> Bool? {
        try valueIfPresent(key)?.bool(at: place(key, source))
    }

    package func intIfPresent(_ key: String, in source: String, minimum: Int = 0) throws(LatheError) -> Int? {
        try valueIfPresent(key)?.int(at: place(key, source), minimum: minimum)
    }

    package func doubleIfPresent(_ key: String, in source: String) throws(LatheError) -> Double? {
        try valueIfPresent(key)?.double(at: place(key, source))
    }

    package func arrayIfPresent(_ key: String, in source: String) throws(LatheError) -> [JSON]? {
        try valueIfPresent(key)?.array(at: place(key, source))
    }

    package func objectIfPresent(_ key: String, in source: String) throws(LatheError) -> JSONObject? {
        try valueIfPresent(key)?.object(at: place(key, source))
    }

    private func place(_ key: String, _ source: String) -> String { "\(source): the field \(quoted(key))" }
}
