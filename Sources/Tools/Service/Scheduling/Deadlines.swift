import Synchronization

/// Tells whoever is late, once.
///
/// One task watches all deadlines while there are any. A sleeping task for each would be kept by the system until the
/// deadline, whether its request has long been answered or not: under a storm of short requests that is all the memory there is.
final class Deadlines: Sendable {
    private struct State {
        var entries: [UInt64: (deadline: ContinuousClock.Instant, onPass: @Sendable () -> Void)] = [:]
        var nextID: UInt64 = 0
        var isWatched = false
    }

    private let state = Mutex(State())
    /// How late a word may come.
    private static let tick = Duration.milliseconds(50)

    /// - Returns: what `remove` takes.
    func add(_ deadline: ContinuousClock.Instant, onPass: @escaping @Sendable () -> Void) -> UInt64 {
        let (id, startsWatching) = state.withLock { state in
            state.nextID += 1
            state.entries[state.nextID] = (deadline, onPass)
            defer { state.isWatched = true }
            return (state.nextID, !state.isWatched)
        }
        if startsWatching { Task { await watch() } }
        return id
    }

    func remove(_ id: UInt64) { state.withLock { _ = $0.entries.removeValue(forKey: id) } }

    private func watch() async {
        while true {
            let now = ContinuousClock.now
            let passed: [@Sendable () -> Void]? = state.withLock { state in
                if state.entries.isEmpty {
                    state.isWatched = false
                    return nil
                }
                let late = state.entries.filter { $0.value.deadline <= now }
                for id in late.keys { state.entries[id] = nil }
                return late.values.map(\.onPass)
            }
            guard let passed else { return }
            for onPass in passed { onPass() }
            try? await Task.sleep(for: Self.tick)
        }
    }
}
