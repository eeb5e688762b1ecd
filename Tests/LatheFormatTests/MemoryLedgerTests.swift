import LatheFormat
import Testing

@Suite struct MemoryLedgerTests {
    @Test func countsWhileTheReservationLives() throws {
        let ledger = MemoryLedger(limits: [.windows: 100])
        do {
            let first = try ledger.reserve(60, .windows, for: "a")
            let second = try ledger.reserve(40, .windows, for: "b")
            #expect(ledger.current(.windows) == 100 && first.byteCount + second.byteCount == 100)
        }
        #expect(ledger.current(.windows) == 0)
        #expect(ledger.peak(.windows) == 100)
        #expect(ledger.peak(.weights) == 0)
    }

    @Test func bufferGivesBackWithItsLastView() throws {
        let ledger = MemoryLedger()
        // Below and above the size from which a buffer is a map of its own.
        for size in [0, 1, 1000, 1 << 20] {
            var view: ByteView?
            do {
                let buffer = try ledger.buffer(size, .activations, for: "a test")
                view = buffer.view
                #expect(ledger.current(.activations) == size)
            }
            #expect(view?.count == size && ledger.current(.activations) == size)
            view = nil
            #expect(ledger.current == 0)
        }
    }

    @Test func refusalSaysWhatIsLeft() throws {
        let ledger = MemoryLedger(limits: [.keyValueCache: 100])
        let held = try ledger.reserve(70, .keyValueCache, for: "a")
        let error = try #require(throws: LatheError.self) {
            try ledger.buffer(31, .keyValueCache, for: "the keys and values of all sessions")
        }
        #expect(error.code == .budget)
        for word in ["kv_cache", "100", "30", "31", "the keys and values of all sessions"] {
            #expect(error.message.contains(word), "\(error.message)")
        }
        // Nothing was taken, and what is left can be.
        #expect(ledger.current == held.byteCount)
        _ = try ledger.reserve(30, .keyValueCache, for: "b")
        // Categories do not share.
        _ = try ledger.reserve(1000, .weights, for: "c")
    }

    @Test func requestsFailOnDemand() throws {
        let ledger = MemoryLedger(failing: { $0 == 1 })
        _ = try ledger.reserve(1, .weights, for: "a")
        #expect(throws: LatheError.self) { try ledger.buffer(1, .weights, for: "b") }
        _ = try ledger.reserve(1, .weights, for: "c")
        #expect(ledger.requestCount == 3 && ledger.current == 0)
    }
}
