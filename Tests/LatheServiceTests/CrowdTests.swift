import Lathe
import LatheFormat
import Synchronization
import Testing

@testable import LatheService

/// Many at once: the same bits as alone, turns, bounds, deadlines, cancellation (FAULTS 31, 33–35, 37, 39, 40).
@Suite(.timeLimit(.minutes(5))) struct CrowdTests {
    private static let long: JSON = ["prompt": "The sea", "max_new_tokens": 100, "ignore_eos": true]

    @Test(arguments: [0, 6])
    func resultsAreThoseOfOneAlone(promptLookup: Int) async throws {
        let prompts = [
            "It was a dark", "The sea", "Call me Ishmael", "", "She said nothing, for a long while", "1 2 3",
            "Of arms", "He had a", "On the", "When I was young there was a house by the road, and in it",
        ]
        func body(_ index: Int) -> JSON {
            [
                "prompt": .string(prompts[index]), "max_tokens": .number(5 + 7 * index), "seed": .number(index),
                "temperature": index % 2 == 0 ? 1 : 0, "logprobs": 2, "echo": true,
            ]
        }
        let alone = try await ServiceFixture(sessions: 1)
        var expected: [JSON?] = []
        for index in prompts.indices {
            expected.append(try await alone.post("/v1/completions", body(index)).json["choices"])
        }
        let crowd = try await ServiceFixture(
            sessions: 4, queue: 64, keyValueTokens: 256, chunk: 7, promptLookup: promptLookup)
        let found = try await withThrowingTaskGroup(of: (Int, JSON?).self) { group in
            for index in prompts.indices {
                for _ in 0..<3 {
                    group.addTask {
                        let answer = try await crowd.post("/v1/completions", body(index), client: "\(index)")
                        return (index, answer.json["choices"])
                    }
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(found.count == 30)
        for (index, choices) in found { #expect(choices == expected[index] && choices != nil, "prompt \(index)") }
    }

    @Test func fullQueueRefusesAtOnce() async throws {
        let fixture = try await ServiceFixture(sessions: 1, queue: 2)
        let turnstile = await Turnstile(fixture.service.engine)
        turnstile.close()
        let running = (0..<3).map { _ in Task { try await fixture.post("/generate", Self.long) } }
        try await fixture.eventually { $0["sessions"]!["waiting"] == 2 }
        for stream in [false, true] {
            let refused = try await fixture.post("/generate", Self.long.with([("stream", .bool(stream))]))
            #expect(refused.status == 429 && refused.retryAfterSeconds! >= 1)
            #expect(refused.error?["code"] == "queue_full")
        }
        turnstile.open()
        for task in running { #expect(try await task.value.status == 200) }
        try await fixture.isIdle()
    }

    @Test func clientsTakeTurns() async throws {
        let queue = SessionQueue(engine: try await ServiceFixture(sessions: 1).service.engine, capacity: 64)
        var held: Session? = try await queue.session(tokens: 10, client: "x", mayBeRefused: true)
        let (order, continuation) = AsyncStream.makeStream(of: String.self)
        for (index, client) in ["greedy", "greedy", "greedy", "polite", "greedy", "late"].enumerated() {
            Task {
                // Lets go of the session only when its turn has been told.
                let session = try await queue.session(tokens: 10, client: client, mayBeRefused: true)
                continuation.yield(client)
                withExtendedLifetime(session) {}
            }
            while queue.waitingCount < index + 1 { try await Task.sleep(for: .milliseconds(1)) }
        }
        withExtendedLifetime(held) {}
        held = nil
        var found: [String] = []
        for await client in order {
            found.append(client)
            if found.count == 6 { break }
        }
        #expect(found == ["greedy", "polite", "late", "greedy", "greedy", "greedy"])
    }

    /// One that needs the whole cache waits for it, and those behind it wait too, though they would fit.
    @Test func largeRequestIsNotStarved() async throws {
        let fixture = try await ServiceFixture(sessions: 4, context: 128, queue: 64, keyValueTokens: 192)
        let engine = fixture.service.engine
        var held: [Session] = [try engine.makeSession(tokens: 60), try engine.makeSession(tokens: 60)]
        let large = Task { try await fixture.post("/generate", Self.long, client: "c") }
        try await fixture.eventually { $0["sessions"]!["waiting"] == 1 }
        let behind = Task { try await fixture.post("/generate", ["prompt": "A", "max_new_tokens": 1], client: "d") }
        try await fixture.eventually { $0["sessions"]!["waiting"] == 2 }
        #expect(engine.keyValueTokens.promised == 128 && engine.sessionCount == 2)
        held.removeLast()
        #expect(try await large.value.status == 200)
        #expect(try await behind.value.status == 200)
        withExtendedLifetime(held) {}
        held = []
        try await fixture.isIdle()
    }

    @Test func deadlineInTheQueueNeverRuns() async throws {
        let fixture = try await ServiceFixture(sessions: 1, timeout: .milliseconds(20))
        var held: Session? = try fixture.service.engine.makeSession()
        let late = try await fixture.post("/generate", Self.long)
        #expect(late.status == 504 && late.error?["code"] == "deadline_passed")
        try await fixture.eventually { $0["sessions"]!["waiting"] == 0 }
        #expect(fixture.service.engine.sessionCount == 1)
        withExtendedLifetime(held) {}
        held = nil
        try await fixture.isIdle()
    }

    @Test func deadlineEndsWhatRuns() async throws {
        let fixture = try await ServiceFixture(sessions: 1, timeout: .milliseconds(50))
        let turnstile = await Turnstile(fixture.service.engine)
        turnstile.close()
        let answer = try await fixture.post("/generate", Self.long)
        #expect(answer.status == 504 && answer.error?["code"] == "deadline_passed")
        turnstile.open()
        try await fixture.isIdle()
    }

    @Test(arguments: [false, true])
    func cancelledCallFreesItsPlace(waits: Bool) async throws {
        let fixture = try await ServiceFixture(sessions: 1, queue: 4)
        let turnstile = await Turnstile(fixture.service.engine)
        turnstile.close()
        let first = Task { try await fixture.post("/generate", Self.long) }
        try await fixture.eventually { $0["sessions"]!["running"] == 1 }
        let second = Task { try await fixture.post("/generate", Self.long) }
        try await fixture.eventually { $0["sessions"]!["waiting"] == 1 }
        let (gone, other) = waits ? (second, first) : (first, second)
        gone.cancel()
        #expect(try await gone.value.status == 503)
        turnstile.open()
        #expect(try await other.value.status == 200)
        try await fixture.isIdle()
    }

    @Test func droppedStreamFreesItsPlace() async throws {
        let fixture = try await ServiceFixture(sessions: 1)
        let body = Self.long.with([("stream", true)])
        for read in 0..<3 {
            do {
                guard case .events(let events) = await fixture.reply("/generate", body) else {
                    Issue.record("no stream")
                    return
                }
                var iterator = events.makeAsyncIterator()
                for _ in 0..<read { #expect(await iterator.next() != nil) }
            }
            try await fixture.isIdle()
        }
    }

    /// A reader that does not read loses its stream, not the service its memory.
    @Test func slowReaderIsCutOff() async throws {
        let fixture = try await ServiceFixture(sessions: 1, eventBuffer: 8)
        let body = Self.long.with([("stream", true)])
        guard case .events(let events) = await fixture.reply("/generate", body) else {
            Issue.record("no stream")
            return
        }
        try await fixture.isIdle()
        var count = 0
        var last: [UInt8] = []
        for await event in events {
            count += 1
            last = event
        }
        #expect(count <= 10 && last != Array("data: [DONE]\n\n".utf8))
    }

    /// Numbers that are not finite end their own request; neighbours decode the same bits beside it.
    @Test func poisonedRequestFailsAlone() async throws {
        let fixture = try await ServiceFixture(try TestModel.poisoned(at: 60), queue: 16, chunk: 16)
        let healthy: JSON = [
            "prompt": [1, 2, 3], "max_new_tokens": 40, "temperature": 1, "seed": 5, "ignore_eos": true,
        ]
        let expected = try await fixture.post("/generate", healthy)
        #expect(expected.status == 200)
        let neighbours = (0..<6).map { _ in Task { try await fixture.post("/generate", healthy) } }
        for stream in [false, true] {
            let long = healthy.with([("max_new_tokens", 90), ("stream", .bool(stream))])
            let failed = try await fixture.post("/generate", long)
            #expect(failed.status == 500 && failed.error?["code"] == "not_finite")
        }
        for task in neighbours { #expect(try await task.value.json == expected.json) }
        try await fixture.isIdle()
    }

    /// A stream that has begun can only say so as its last event; whole until then, and never ended as if it were complete.
    @Test func poisonedStreamSaysSoAtItsEnd() async throws {
        let fixture = try await ServiceFixture(try TestModel.poisoned(at: 60), queue: 16, chunk: 16)
        let request: JSON = [
            "prompt": [1, 2, 3], "max_tokens": 90, "temperature": 0, "ignore_eos": true, "logprobs": 1,
        ]
        let healthy = request.with([("max_tokens", 50), ("stream", true)])
        let neighbour = Task { try await fixture.events("/v1/completions", healthy) }
        let reply = await fixture.reply("/v1/completions", request.with([("stream", true)]))
        guard case .events(let events) = reply else {
            Issue.record("no stream")
            return
        }
        var texts: [String] = []
        for await event in events { texts.append(String(decoding: event, as: UTF8.self)) }
        // Positions 3 to 59 are sound: the tokens of 58 steps came, and then the error in the place of the closing mark.
        #expect(texts.count == 59 && texts.dropLast().allSatisfy { $0.contains("token_logprobs") })
        #expect(texts.last!.contains("not_finite") && !texts.contains("data: [DONE]\n\n"))
        let expected = try await fixture.events("/v1/completions", healthy)
        func choices(_ events: [JSON]) -> [JSON?] { events.map { $0["choices"] } }
        #expect(choices(try await neighbour.value) == choices(expected))
        try await fixture.isIdle()
    }

    @Test func drainEndsWhatRunsAndRefusesTheRest() async throws {
        let fixture = try await ServiceFixture(sessions: 1)
        let turnstile = await Turnstile(fixture.service.engine)
        turnstile.close()
        let running = Task { try await fixture.post("/generate", Self.long) }
        try await fixture.eventually { $0["sessions"]!["running"] == 1 }
        let waiting = Task { try await fixture.post("/generate", Self.long) }
        try await fixture.eventually { $0["sessions"]!["waiting"] == 1 }
        let drained = Task { await fixture.service.drain(within: .seconds(200)) }
        #expect(try await waiting.value.status == 503)
        #expect(!fixture.service.isReady)
        #expect(try await fixture.post("/generate", Self.long).status == 503)
        turnstile.open()
        #expect(try await running.value.status == 200)
        await drained.value
        try await fixture.isIdle()
    }

    @Test func drainCancelsWhatTakesTooLong() async throws {
        let fixture = try await ServiceFixture(sessions: 1)
        let turnstile = await Turnstile(fixture.service.engine)
        turnstile.close()
        let running = Task { try await fixture.post("/generate", Self.long) }
        try await fixture.eventually { $0["sessions"]!["running"] == 1 }
        await fixture.service.drain(within: .milliseconds(5))
        #expect(try await running.value.status == 503)
        turnstile.open()
        try await fixture.isIdle()
    }

    @Test func notReadyBeforeWarmUp() async throws {
        let fixture = try await ServiceFixture(warm: false)
        #expect(!fixture.service.isReady)
        #expect(try await fixture.post("/generate", Self.long).status == 503)
        try await fixture.service.warmUp()
        #expect(fixture.service.isReady)
    }
}
