#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// Zeroed memory aligned to 64 bytes, freed when the last reference goes.
///
/// Large buffers come from the system page by page as they are first touched, so that room which is never used (a KV
/// cache for a context that no prompt fills) costs address space alone.
///
/// A class, because views on it (`ByteView`) retain it. Whoever holds the buffer may write; once a view has been handed
/// out the bytes under it must no longer change.
@safe
package final class AlignedBuffer: @unchecked Sendable {
    // Sendable: one writer at a time is the owner's duty, as with any buffer; the reference itself is immutable.
    package let byteCount: Int
    private let base: UnsafeMutableRawPointer
    private let isMapped: Bool
    /// Gives the bytes back to a ledger's account when the buffer goes.
    private let reservation: MemoryReservation?

    /// Traps where the system has no more memory; for sizes that come from a file or a user, see `init(ifAvailable:)`.
    package convenience init(byteCount: Int) {
        self.init(ifAvailable: byteCount)!
    }

    /// nil where the system has no more memory.
    package init?(ifAvailable byteCount: Int, reservation: MemoryReservation? = nil) {
        precondition(byteCount >= 0)
        self.byteCount = byteCount
        self.reservation = reservation
        isMapped = byteCount >= Self.mappedByteCount
        if isMapped {
            let pages = unsafe mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            guard let pages = unsafe pages, unsafe pages != MAP_FAILED else {
                return nil
            }
            unsafe base = pages
        } else {
            // One cache line more than asked, so that an empty buffer has an address too.
            unsafe base = UnsafeMutableRawPointer.allocate(byteCount: byteCount + 64, alignment: 64)
            unsafe base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount + 64)
        }
    }

    deinit {
        if isMapped {
            _ = unsafe munmap(base, byteCount)
        } else {
            unsafe base.deallocate()
        }
    }

    /// Asks for pages of 2 MB, of which an address translation buffer covers far more. A hint, where the system has them.
    package func preferLargePages() {
        #if canImport(Glibc)
            if isMapped { _ = unsafe madvise(base, byteCount, MADV_HUGEPAGE) }
        #endif
    }

    /// From this size on a map of its own is worth a system call.
    private static let mappedByteCount = 1 << 18

    package var view: ByteView { unsafe ByteView(owner: self, base: UnsafeRawPointer(base), count: byteCount) }

    /// The memory as elements of `type`. The address is good while the buffer lives, for which the caller answers.
    @unsafe
    package func elements<T>(of type: T.Type) -> UnsafeMutablePointer<T> {
        unsafe base.bindMemory(to: T.self, capacity: byteCount / MemoryLayout<T>.stride)
    }

    package func withUnsafeMutableBytes<R, E: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        try unsafe body(UnsafeMutableRawBufferPointer(start: base, count: byteCount))
    }

    /// The buffer as an array of numbers, for writing; bytes behind the last whole element are left out.
    package func withMutableSpan<T: Numeric & BitwiseCopyable, R, E: Error>(
        of type: T.Type, _ body: (inout MutableSpan<T>) throws(E) -> R
    ) throws(E) -> R {
        try unsafe withUnsafeMutableBytes { (bytes) throws(E) in
            var span = unsafe MutableSpan<T>(_unsafeElements: bytes.bindMemory(to: T.self))
            return try body(&span)
        }
    }

    /// Stores a copy of `bytes` from byte `offset` on; traps if they do not fit.
    package func copy(_ bytes: ByteView, at offset: Int) {
        precondition(offset >= 0 && offset <= byteCount - bytes.count, "copy outside the buffer")
        unsafe bytes.withUnsafeBytes { source in
            guard let start = source.baseAddress else { return }
            unsafe (base + offset).copyMemory(from: start, byteCount: source.count)
        }
    }
}
