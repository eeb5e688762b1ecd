#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Memory that ends, or begins, exactly where an unreadable page lies: one byte too far is a fault, without a sanitizer.
final class GuardedBuffer {
    /// Which side of the extent touches its guard page.
    enum Placement: CaseIterable, Sendable {
        case beforeGuard
        case afterGuard
    }

    /// The first of `bytes` bytes.
    let base: UnsafeMutableRawPointer
    let bytes: Int
    private let mapping: UnsafeMutableRawPointer
    private let mappedBytes: Int

    /// - Parameter alignment: what the address must be a multiple of; at the end it is kept only where `bytes` allows,
    ///   so `bytes` must be a multiple of it.
    init(bytes: Int, alignment: Int = 4, placement: Placement = .beforeGuard) {
        precondition(bytes % alignment == 0, "\(bytes) bytes before a guard page cannot be aligned to \(alignment)")
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let body = (bytes + page - 1) / page * page
        mappedBytes = body + 2 * page
        let address = mmap(nil, mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0)
        guard let address, address != MAP_FAILED else { fatalError("mmap of \(mappedBytes) bytes: errno \(errno)") }
        mapping = address
        precondition(mprotect(mapping, page, PROT_NONE) == 0, "mprotect: errno \(errno)")
        precondition(mprotect(mapping + page + body, page, PROT_NONE) == 0, "mprotect: errno \(errno)")
        base = placement == .afterGuard ? mapping + page : mapping + page + body - bytes
        self.bytes = bytes
    }

    convenience init<T>(_ values: [T], alignment: Int = 4, placement: Placement = .beforeGuard) {
        self.init(bytes: values.count * MemoryLayout<T>.stride, alignment: alignment, placement: placement)
        values.withUnsafeBytes { source in
            guard let start = source.baseAddress else { return }
            base.copyMemory(from: start, byteCount: source.count)
        }
    }

    deinit { munmap(mapping, mappedBytes) }

    func pointer<T>(to type: T.Type = T.self) -> UnsafeMutablePointer<T> { base.assumingMemoryBound(to: type) }

    /// The contents as values of one type.
    func array<T>(of type: T.Type = T.self) -> [T] {
        Array(UnsafeRawBufferPointer(start: base, count: bytes).bindMemory(to: type))
    }

    func fill(_ byte: UInt8) { memset(base, Int32(byte), bytes) }
}

/// A small generator with a seed, so that a failure repeats (splitmix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func floats(_ count: Int, in range: ClosedRange<Float>) -> [Float] {
        (0..<count).map { _ in Float.random(in: range, using: &self) }
    }
}
