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

    /// Where the text went on when the last two stored tokens and `next` stood here before, or else the last one and `next`; of
    /// several such places the latest. `history.count` is the place of `next` itself. "Prompt lookup decoding", Saxena 2023.
    func placeAfter(_ next: Int32) -> Int? {
        let history = history
        guard let last = history.last else { return nil }
        let beforeLast = history.count > 1 ? history[history.count - 2] : nil
        var place: Int?
        for index in stride(from: history.count - 1, to: 0, by: -1)
        where history[index] == next && history[index - 1] == last {
            if index > 1 && history[index - 2] == beforeLast { return index + 1 }
            if place == nil { place = index + 1 }
        }
        return place
    }

    /// `tokens` have been stored.
    func advance(by tokens: some Collection<Int32>) {
        history.append(contentsOf: tokens)
        position.add(tokens.count, ordering: .relaxed)
    }
}
