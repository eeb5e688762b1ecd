/// The 64-bit xxHash of a stream of bytes: a checksum against damage, not against malice.
///
/// Written from the algorithm's specification ("xxHash fast digest algorithm", version 0.1.1, Yann Collet). Chosen because
/// one core checks more bytes a second than it reads from memory while computing, without any instruction that a CPU might lack.
package struct XXH64 {
    private static let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
    private static let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
    private static let prime3: UInt64 = 0x1656_67B1_9E37_79F9
    private static let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
    private static let prime5: UInt64 = 0x27D4_EB2F_1656_67C5

    private let seed: UInt64
    private var lanes: (UInt64, UInt64, UInt64, UInt64)
    private var byteCount = 0
    // What does not fill a stripe of 32 bytes yet.
    private var pending: [UInt8] = []

    package init(seed: UInt64 = 0) {
        self.seed = seed
        lanes = (seed &+ Self.prime1 &+ Self.prime2, seed &+ Self.prime2, seed, seed &- Self.prime1)
    }

    package static func digest(of bytes: ByteView) -> UInt64 {
        var hash = XXH64()
        hash.update(bytes)
        return hash.digest()
    }

    package mutating func update(_ bytes: ByteView) {
        byteCount += bytes.count
        var start = 0
        if !pending.isEmpty {
            start = min(32 - pending.count, bytes.count)
            pending.append(contentsOf: bytes.slice(offset: 0, count: start).array())
            if pending.count < 32 { return }
            consume(ByteView(copying: pending))
            pending.removeAll(keepingCapacity: true)
        }
        let whole = (bytes.count - start) & ~31
        consume(bytes.slice(offset: start, count: whole))
        pending.append(contentsOf: bytes.slice(offset: start + whole, count: bytes.count - start - whole).array())
    }

    /// The hash of everything so far; more may follow.
    package func digest() -> UInt64 {
        var hash: UInt64
        if byteCount >= 32 {
            hash =
                Self.rotate(lanes.0, 1) &+ Self.rotate(lanes.1, 7) &+ Self.rotate(lanes.2, 12)
                &+ Self.rotate(lanes.3, 18)
            for lane in [lanes.0, lanes.1, lanes.2, lanes.3] {
                hash = (hash ^ Self.round(0, lane)) &* Self.prime1 &+ Self.prime4
            }
        } else {
            hash = seed &+ Self.prime5
        }
        hash &+= UInt64(byteCount)
        var rest = pending[...]
        while rest.count >= 8 {
            hash = Self.rotate(hash ^ Self.round(0, Self.word(rest.prefix(8))), 27) &* Self.prime1 &+ Self.prime4
            rest = rest.dropFirst(8)
        }
        if rest.count >= 4 {
            hash = Self.rotate(hash ^ Self.word(rest.prefix(4)) &* Self.prime1, 23) &* Self.prime2 &+ Self.prime3
            rest = rest.dropFirst(4)
        }
        for byte in rest { hash = Self.rotate(hash ^ UInt64(byte) &* Self.prime5, 11) &* Self.prime1 }
        hash = (hash ^ hash >> 33) &* Self.prime2
        hash = (hash ^ hash >> 29) &* Self.prime3
        return hash ^ hash >> 32
    }

    /// Whole stripes of 32 bytes.
    private mutating func consume(_ stripes: ByteView) {
        guard stripes.isAligned(to: UInt64.self) else {
            // Through aligned memory, a piece at a time.
            for start in stride(from: 0, to: stripes.count, by: 1 << 16) {
                consume(ByteView(copying: stripes.slice(offset: start, count: min(1 << 16, stripes.count - start))))
            }
            return
        }
        var (a, b, c, d) = lanes
        stripes.withSpan(of: UInt64.self) { words in
            var index = 0
            while index < words.count {
                a = Self.round(a, UInt64(littleEndian: words[index]))
                b = Self.round(b, UInt64(littleEndian: words[index + 1]))
                c = Self.round(c, UInt64(littleEndian: words[index + 2]))
                d = Self.round(d, UInt64(littleEndian: words[index + 3]))
                index += 4
            }
        }
        lanes = (a, b, c, d)
    }

    @inline(__always)
    private static func round(_ lane: UInt64, _ word: UInt64) -> UInt64 {
        rotate(lane &+ word &* prime2, 31) &* prime1
    }

    @inline(__always)
    private static func rotate(_ value: UInt64, _ count: UInt64) -> UInt64 { value << count | value >> (64 - count) }

    private static func word(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}

/// Sixteen lower-case hexadecimal digits.
package func hexadecimal(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
}

/// The value of exactly sixteen lower-case hexadecimal digits; nil for anything else.
package func value(hexadecimal digits: String) -> UInt64? {
    let value = digits.utf8.count == 16 ? UInt64(digits, radix: 16) : nil
    return value.flatMap { hexadecimal($0) == digits ? $0 : nil }
}
