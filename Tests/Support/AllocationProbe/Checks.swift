#if os(Linux)
    import Glibc
#else
    import Darwin
#endif

/// `Check.free` hides it.
private func posixFree(_ memory: UnsafeMutableRawPointer?) { free(memory) }

/// Functions whose allocations are known: what the counter finds in them says whether it counts at all.
enum Check: String, CaseIterable {
    case nothing, once, resize, free, map, worker, stranger, outside, reference

    func run(_ counter: Counter) {
        // A first thread takes what only first threads take.
        Self.thread {}
        switch self {
        case .nothing: Self.measure(counter) { Self.sum(1000) }
        case .once: Self.measure(counter) { Self.allocate() }
        case .resize:
            Self.allocate()
            Self.measure(counter) { Self.memory = realloc(Self.memory, 5000) }
        case .free:
            Self.allocate()
            Self.measure(counter) { Self.release() }
        case .map:
            Self.measure(counter) {
                munmap(mmap(nil, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096)
            }
        case .worker:
            Self.measure(counter) { Self.thread { Self.allocate() } }
        case .stranger:
            counter.enter(Counter.Span.step.rawValue, false)
            Self.thread { Self.allocate() }
            counter.enter(0, false)
        case .reference:
            let object = Unmanaged.passRetained(Self.Object())
            Self.measure(counter) { for _ in 0..<10 { Self.retain(object) } }
        case .outside:
            Self.measure(counter) {}
            Self.allocate()
        }
    }

    private final class Object {}

    private static func measure(_ counter: Counter, _ body: () -> Void) {
        counter.enter(Counter.Span.step.rawValue, true)
        body()
        counter.enter(0, false)
    }

    // Kept where the compiler cannot prove that nobody looks.
    nonisolated(unsafe) private static var memory: UnsafeMutableRawPointer?
    nonisolated(unsafe) private static var total = 0

    @inline(never) private static func allocate() { memory = malloc(100) }
    @inline(never) private static func release() { posixFree(memory) }
    @inline(never) private static func sum(_ count: Int) { for i in 0..<count { total &+= i ^ total } }

    @inline(never) private static func retain(_ object: Unmanaged<Object>) { _ = object.retain() }

    @inline(never) private static func thread(_ body: @convention(c) () -> Void) {
        var handle = pthread_t()
        pthread_create(
            &handle, nil,
            {
                unsafeBitCast($0, to: (@convention(c) () -> Void).self)()
                return nil
            }, unsafeBitCast(body, to: UnsafeMutableRawPointer.self))
        pthread_join(handle, nil)
    }
}
