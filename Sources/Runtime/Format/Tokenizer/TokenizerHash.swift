/// Where the hash tables of `TokenizerTables` put a key: the first slot to look at, the others follow it, the first slot
/// of the table behind the last. Part of the file format: the writer and the reader must agree.
///
/// Capacities need not be powers of two: a 32-bit hash is scaled to the capacity (Lemire, "Fast random integer generation
/// in an interval", 2019).
package enum TokenizerHash {
    /// For a merge of two ids.
    @inlinable
    package static func slot(left: UInt32, right: UInt32, capacity: Int) -> Int {
        // Multiplicative hashing by 2⁶⁴ / golden ratio; the fold brings the left id into the bits that the second
        // product spreads (Knuth, The Art of Computer Programming, volume 3, section 6.4).
        var word = (UInt64(left) << 32 | UInt64(right)) &* 0x9E37_79B9_7F4A_7C15
        word ^= word >> 32
        word = word &* 0x9E37_79B9_7F4A_7C15
        return scaled(UInt32(truncatingIfNeeded: word >> 32), capacity)
    }

    /// For a token by its bytes: FNV-1a in 64 bits, with its published constants, folded by one more product.
    @inlinable
    package static func slot(of bytes: some Sequence<UInt8>, capacity: Int) -> Int {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        hash = (hash ^ (hash >> 32)) &* 0x9E37_79B9_7F4A_7C15
        return scaled(UInt32(truncatingIfNeeded: hash >> 32), capacity)
    }

    @inlinable
    static func scaled(_ hash: UInt32, _ capacity: Int) -> Int {
        Int(truncatingIfNeeded: (UInt64(hash) &* UInt64(truncatingIfNeeded: capacity)) >> 32)
    }
}
