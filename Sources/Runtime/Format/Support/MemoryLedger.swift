import Synchronization

/// What memory is taken for: the columns of a plan and of a ledger.
public enum MemoryCategory: String, Sendable, Hashable, CaseIterable {
    /// Parameters, as the kernels read them: pages of the model file, or memory of the process's own.
    case weights
    /// Keys and values of every session's whole context.
    case keyValueCache = "kv_cache"
    /// The engine's arena: what one pass computes, logits included.
    case activations
    /// The tokenizer's tables.
    case tokenizer
    /// Pieces of files on their way from or to the disk.
    case windows
    /// What a service holds for its connections and queues.
    case server
    /// What the language runtime, the libraries and the program itself take: measured, bounded by a stated constant, and
    /// never handed out by the ledger.
    case runtime
}

/// The one account of a process's large memory, by category. What its limits do not hold is refused before it is taken.
///
/// Each reservation is given back when the object that stands for it goes, so that no path can forget it.
package final class MemoryLedger: Sendable {
    private struct Account {
        var current = 0
        var peak = 0
    }
    private struct State {
        var accounts: [Account] = Array(repeating: Account(), count: MemoryCategory.allCases.count)
        var requests = 0
    }

    private let limits: [Int]
    private let fails: (@Sendable (Int) -> Bool)?
    private let state = Mutex(State())

    /// - Parameters:
    ///   - limits: of the categories; one that is not named has none.
    ///   - fails: for tests: whether the n-th request (from 0) is to be refused as if memory had run out.
    package init(limits: [MemoryCategory: Int] = [:], failing fails: (@Sendable (Int) -> Bool)? = nil) {
        self.limits = MemoryCategory.allCases.map { limits[$0] ?? .max }
        self.fails = fails
    }

    /// Bytes taken now.
    package func current(_ category: MemoryCategory) -> Int { state.withLock { $0.accounts[category.index].current } }
    /// The most bytes that were taken at once.
    package func peak(_ category: MemoryCategory) -> Int { state.withLock { $0.accounts[category.index].peak } }
    /// Bytes taken now, of all categories.
    package var current: Int { state.withLock { $0.accounts.reduce(0) { $0 + $1.current } } }
    /// How often something was asked for, granted or not.
    package var requestCount: Int { state.withLock { $0.requests } }

    /// Counts `byteCount` bytes until the result goes.
    ///
    /// - Throws: `budget` naming the category, what was asked and what is left.
    package func reserve(
        _ byteCount: Int, _ category: MemoryCategory, for purpose: String
    ) throws(LatheError) -> MemoryReservation {
        precondition(byteCount >= 0)
        let limit = limits[category.index]
        let (left, isFailing) = state.withLock { state in
            let request = state.requests
            state.requests += 1
            let left = limit - state.accounts[category.index].current
            if let fails, fails(request) { return (left, true) }
            guard byteCount <= left else { return (left, false) }
            state.accounts[category.index].current += byteCount
            state.accounts[category.index].peak = max(
                state.accounts[category.index].peak, state.accounts[category.index].current)
            return (left, false)
        }
        if isFailing { throw Self.outOfMemory(byteCount, category, purpose) }
        guard byteCount <= left else {
            throw LatheError(
                .budget,
                """
                The memory plan holds \(limit) bytes for \(category.rawValue), of which \(left) are left; \(purpose) \
                would take \(byteCount).
                """)
        }
        return MemoryReservation(ledger: self, byteCount: byteCount, category: category)
    }

    /// Zeroed memory that is counted while it lives.
    ///
    /// - Throws: `budget` where the limit does not hold it, or the system does not have it.
    package func buffer(
        _ byteCount: Int, _ category: MemoryCategory, for purpose: String
    ) throws(LatheError) -> AlignedBuffer {
        let reservation = try reserve(byteCount, category, for: purpose)
        guard let buffer = AlignedBuffer(ifAvailable: byteCount, reservation: reservation) else {
            throw Self.outOfMemory(byteCount, category, purpose)
        }
        return buffer
    }

    fileprivate func release(_ byteCount: Int, _ category: MemoryCategory) {
        state.withLock { $0.accounts[category.index].current -= byteCount }
    }

    private static func outOfMemory(_ byteCount: Int, _ category: MemoryCategory, _ purpose: String) -> LatheError {
        LatheError(
            .budget,
            "The system has no \(byteCount) bytes left for \(purpose) (\(category.rawValue)); end something else, or ask for less."
        )
    }
}

/// Some bytes of a ledger's account, until the last reference goes.
package final class MemoryReservation: Sendable {
    private let ledger: MemoryLedger
    package let byteCount: Int
    private let category: MemoryCategory

    fileprivate init(ledger: MemoryLedger, byteCount: Int, category: MemoryCategory) {
        self.ledger = ledger
        self.byteCount = byteCount
        self.category = category
    }

    deinit { ledger.release(byteCount, category) }
}

extension MemoryCategory {
    /// Its place in `allCases`.
    fileprivate var index: Int { Self.allCases.firstIndex(of: self)! }
}
