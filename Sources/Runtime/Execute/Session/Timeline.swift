import Synchronization

/// A session's place in the engine: its blocks of keys and values, and how many tokens they hold.
final class Timeline: @unchecked Sendable {
    // Sendable: `table`, `pendingTokens` and `history` are touched by the compute thread while a request runs, and a
    // session runs one request at a time; the flag `isBusy` hands them over.
    let table: BlockTable
    /// Tokens stored so far.
    let position = Atomic<Int>(0)
    let isBusy = Atomic<Bool>(false)
    /// Sampled last, not yet stored: it opens the next request.
    var pendingTokens: [Int32] = []
    /// Every token stored so far, which a later request's repetition penalty counts as seen.
    private(set) var history: [Int32] = []

    init(capacityTokens: Int) {
        table = BlockTable(capacity: KeyValueLayout.blocks(forTokens: capacityTokens))
        history.reserveCapacity(capacityTokens)
    }

    /// `tokens` have been stored.
    func advance(by tokens: some Collection<Int32>) {
        history.append(contentsOf: tokens)
        position.add(tokens.count, ordering: .relaxed)
    }
}
