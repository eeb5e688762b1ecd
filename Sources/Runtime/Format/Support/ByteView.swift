#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// A read-only window on bytes that stay valid and unchanged while the view lives.
///
/// The view retains whatever owns the bytes (a mapped file, a buffer), so it can be stored and passed freely; every
/// access is bounds-checked. The pointer leaves only through `withUnsafeBytes`, for kernels.
@safe
package struct ByteView: @unchecked Sendable {
    // Sendable: the bytes are immutable for the owner's lifetime, and the owner is only retained, never called.
    private let owner: AnyObject?
    private let base: UnsafeRawPointer
    package let count: Int

    /// - Parameter owner: keeps `base ..< base + count` alive and unchanged.
    @unsafe
    package init(owner: AnyObject, base: UnsafeRawPointer, count: Int) {
        precondition(count >= 0)
        self.owner = owner
        unsafe self.base = base
        self.count = count
    }

    /// A view on a copy of `bytes`.
    package init(copying bytes: some Collection<UInt8>) {
        let buffer = AlignedBuffer(byteCount: bytes.count)
        unsafe buffer.withUnsafeMutableBytes { unsafe $0.copyBytes(from: bytes) }
        self = buffer.view
    }

    /// A view on a copy of `floats`.
    package init(copying floats: Span<Float>) {
        let buffer = AlignedBuffer(byteCount: floats.count * 4)
        buffer.withMutableSpan(of: Float.self) { span in
            for index in floats.indices { span[index] = floats[index] }
        }
        self = buffer.view
    }

    /// The window `offset ..< offset + count` of this one; traps outside it.
    package func slice(offset: Int, count: Int) -> ByteView {
        precondition(offset >= 0 && count >= 0 && offset <= self.count - count, "slice outside its view")
        return unsafe ByteView(owner: owner!, base: base + offset, count: count)
    }

    package subscript(index: Int) -> UInt8 {
        precondition(index >= 0 && index < count, "index outside its view")
        return unsafe base.load(fromByteOffset: index, as: UInt8.self)
    }

    /// The `index`-th element if the view is read as a little-endian array of `T`; traps outside it. Need not be aligned.
    package func load<T: BitwiseCopyable>(_ index: Int, as type: T.Type) -> T {
        let size = MemoryLayout<T>.size
        precondition(index >= 0 && index < count / size, "index outside its view")
        return unsafe base.loadUnaligned(fromByteOffset: index * size, as: T.self)
    }

    /// A view on a copy of `bytes`, aligned to 64 bytes.
    package init(copying bytes: ByteView) {
        let buffer = AlignedBuffer(byteCount: bytes.count)
        buffer.copy(bytes, at: 0)
        self = buffer.view
    }

    /// Whether the first byte's address suits elements of `T`.
    package func isAligned<T>(to type: T.Type) -> Bool {
        unsafe UInt(bitPattern: base) % UInt(MemoryLayout<T>.alignment) == 0
    }

    /// The view as an array of numbers in the machine's byte order; bytes behind the last whole element are left out. Traps
    /// if it is not aligned for them.
    package func withSpan<T: Numeric & BitwiseCopyable, R, E: Error>(
        of type: T.Type, _ body: (Span<T>) throws(E) -> R
    ) throws(E) -> R {
        precondition(isAligned(to: type), "the view is not aligned for its elements")
        return try unsafe body(
            Span(_unsafeStart: base.assumingMemoryBound(to: T.self), count: count / MemoryLayout<T>.stride))
    }

    package func hasSameBytes(as other: ByteView) -> Bool {
        guard count == other.count else { return false }
        return unsafe memcmp(base, other.base, count) == 0
    }

    /// The index of the first float32 that is an infinity or no number; nil if all are finite. Traps if the view is not
    /// aligned for them.
    package var firstNotFinite: Int? {
        // All exponent bits set.
        func isNotFinite(_ word: UInt32) -> Bool { word & 0x7F80_0000 == 0x7F80_0000 }
        return withSpan(of: UInt32.self) { words in
            // In pieces, so that the inner loop has no exit and vectorizes.
            for start in stride(from: 0, to: words.count, by: 4096) {
                let piece = words.extracting(start..<min(start + 4096, words.count))
                var found = false
                for index in piece.indices { found = found || isNotFinite(piece[index]) }
                if found { return piece.indices.first { isNotFinite(piece[$0]) }.map { start + $0 } }
            }
            return nil
        }
    }

    package func withUnsafeBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        try unsafe body(UnsafeRawBufferPointer(start: base, count: count))
    }

    package func array() -> [UInt8] { unsafe withUnsafeBytes { unsafe Array($0) } }
}
