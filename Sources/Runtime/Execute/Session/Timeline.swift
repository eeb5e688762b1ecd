import Synchronization

/// A session's place in the engine: its blocks of keys and values, and how many tokens they hold.
final class Timeline: @unchecked Sendable {
    // Sendable: `table` and `pendingTokens` are touched by the compute thread while a request runs, and a session runs one
    // request at a time; the flag `isBusy` hands them over.
    let table: BlockTable
    /// Tokens stored so far.
    let position = Atomic<Int>(0)
    let isBusy = Atomic<Bool>(false)
    /// Sampled last, not yet stored: it opens the next request.
    var pendingTokens: [Int32] = []

    init(capacityTokens: Int) {
        table = BlockTable(capacity: KeyValueLayout.blocks(forTokens: capacityTokens))
    }
}
