#if os(Linux)
    import Glibc
#else
    import Darwin
#endif

/// The functions of Tests/Support/Allocations/counter.c, if it was preloaded into this process.
struct Counter: Sendable {
    /// The spans that are counted apart; 0 is none.
    enum Span: Int32 {
        case step = 1
        case delivery = 2
    }

    /// What is counted, in the order of counter.c.
    static let kinds = ["allocated", "resized", "freed", "mapped", "unmapped"]

    let enter: @convention(c) (Int32, Bool) -> Void
    let reset: @convention(c) () -> Void
    private let count: @convention(c) (Int32, Int32) -> UInt64
    private let references: @convention(c) (Int32) -> UInt64
    private let entries: @convention(c) (Int32) -> UInt64
    private let threads: @convention(c) () -> UInt64
    private let print: @convention(c) (Int32, Int32) -> Void

    init?() {
        func find<F>(_ name: String, as type: F.Type) -> F? {
            dlsym(dlopen(nil, RTLD_NOW), "lathe_allocations_\(name)").map { unsafeBitCast($0, to: type) }
        }
        guard let enter = find("enter", as: (@convention(c) (Int32, Bool) -> Void).self),
            let reset = find("reset", as: (@convention(c) () -> Void).self),
            let count = find("count", as: (@convention(c) (Int32, Int32) -> UInt64).self),
            let references = find("references", as: (@convention(c) (Int32) -> UInt64).self),
            let entries = find("entries", as: (@convention(c) (Int32) -> UInt64).self),
            let threads = find("joined", as: (@convention(c) () -> UInt64).self),
            let print = find("print", as: (@convention(c) (Int32, Int32) -> Void).self)
        else { return nil }
        (self.enter, self.reset, self.count, self.references, self.entries, self.threads, self.print) =
            (enter, reset, count, references, entries, threads, print)
    }

    func counts(_ span: Span) -> [(kind: String, count: Int)] {
        Self.kinds.enumerated().map { ($0.element, Int(count(span.rawValue, Int32($0.offset)))) }
    }

    /// Retains and releases.
    func references(_ span: Span) -> Int { Int(references(span.rawValue)) }

    func entries(_ span: Span) -> Int { Int(entries(span.rawValue)) }

    /// Threads that joined one that was counting, from the process's start on.
    var joined: Int { Int(threads()) }

    /// The backtraces of the first calls counted in `span`, to standard error.
    func printStacks(_ span: Span) { print(span.rawValue, 2) }
}
