import LatheFormat
import Testing

@testable import Lathe

/// Streams dropped, tasks cancelled, engines and sessions let go in any order: slots come back, nothing hangs, nothing
/// leaks.
@Suite(.timeLimit(.minutes(5))) struct SessionLifetimeTests {
    private func model() throws -> Model { try TestModels.model("long") }
    private let prompt: [Int32] = [1, 2, 3, 4, 5]

    /// Waits until `condition` holds; the suite's time limit ends a wait for what never comes.
    private func eventually(_ condition: () -> Bool) async throws {
        while !condition() { try await Task.sleep(for: .milliseconds(1)) }
    }

    @Test func droppedStreamFreesItsSlot() async throws {
        let engine = try Run(chunk: 4).engine(model())
        let expected = try await engine.makeSession().all(prompt, GenerationOptions(5)).map(\.id)
        for read in [0, 1, 2, 3] {
            for _ in 0..<10 {
                do {
                    let session = try engine.makeSession()
                    var iterator = try session.generate(prompt, options: GenerationOptions(200)).makeAsyncIterator()
                    for index in 0..<read { #expect(try await iterator.next()?.id == expected[index]) }
                }
                // Stream and session are gone: the one slot is free at once, and what was left running disturbs nobody.
                let session = try engine.makeSession()
                #expect(try await session.all(prompt, GenerationOptions(5)).map(\.id) == expected)
            }
        }
    }

    @Test func finishedStreamFreesItsSlotAtOnce() async throws {
        let engine = try Run().engine(model())
        for _ in 0..<200 {
            let ids = try await engine.makeSession().all(prompt, GenerationOptions(2)).map(\.id)
            #expect(ids.count == 2)
        }
    }

    /// A session may be asked again as soon as its last token is there, before the stream says that it has ended.
    @Test func sessionIsFreeWithItsLastToken() async throws {
        let session = try Run().engine(model()).makeSession()
        for index in 0..<100 {
            var iterator = try session.generate(index == 0 ? prompt : [], options: GenerationOptions(2))
                .makeAsyncIterator()
            while let token = try await iterator.next(), token.finishReason == nil {}
        }
        #expect(session.position == prompt.count + 199)
    }

    @Test func streamOutlivesSessionAndEngine() async throws {
        weak var weakEngine: Engine?
        weak var weakSession: Session?
        weak var weakScheduler: Scheduler?
        func start() throws -> AsyncThrowingStream<GeneratedToken, any Error> {
            let engine = try Run(threads: 2).engine(model())
            let session = try engine.makeSession()
            (weakEngine, weakSession, weakScheduler) = (engine, session, engine.scheduler)
            return try session.generate(prompt, options: GenerationOptions(50))
        }
        let expected = try await Run().engine(model()).makeSession().all(prompt, GenerationOptions(50)).map(\.id)
        var ids: [Int32] = []
        for try await token in try start() { ids.append(token.id) }
        #expect(ids == expected)
        // The last references died on the compute thread, which cannot wait for itself, before the stream said that it
        // had ended: whoever sees the end finds the slot free.
        #expect(weakSession == nil && weakEngine == nil)
        try await eventually { weakScheduler == nil }
    }

    @Test func everyOrderOfLettingGo() async throws {
        for order in 0..<4 {
            weak var weakEngine: Engine?
            weak var weakScheduler: Scheduler?
            do {
                var engine: Engine? = try Run(sessions: 2).engine(model())
                (weakEngine, weakScheduler) = (engine, engine?.scheduler)
                var session: Session? = try engine?.makeSession()
                let idle: Session? = try engine?.makeSession()
                var stream: AsyncThrowingStream<GeneratedToken, any Error>? = try session?.generate(
                    prompt, options: GenerationOptions(200))
                switch order {
                case 0:
                    engine = nil
                    session = nil
                    stream = nil
                case 1:
                    stream = nil
                    session = nil
                    engine = nil
                case 2:
                    session = nil
                    engine = nil
                    if let running = stream {
                        stream = nil
                        var iterator = running.makeAsyncIterator()
                        _ = try await iterator.next()
                    }
                default:
                    engine = nil
                    if let running = stream {
                        stream = nil
                        for try await _ in running { break }
                    }
                    session = nil
                }
                withExtendedLifetime((engine, session, idle, stream)) {}
            }
            try await eventually { weakEngine == nil && weakScheduler == nil }
        }
    }

    @Test func enginesComeAndGo() async throws {
        for index in 0..<40 {
            let engine = try Run(threads: 1 + index % 3).engine(model())
            if index % 2 == 0 { _ = try engine.makeSession() }
            if index % 3 == 0 { _ = try engine.makeSession().generate(prompt, options: GenerationOptions(100)) }
        }
    }

    /// The compute thread stands inside a step when the reading task is cancelled: there is no step of it any more.
    @Test func cancelledTaskStopsBeforeTheNextStep() async throws {
        let engine = try Run(chunk: 1, sessions: 3).engine(model())
        let session = try engine.makeSession()
        let text = Array(try TestModels.tokens("long").prefix(40))
        let alone = try await Run().engine(model()).makeSession().score(text)

        // Both requests are handed over while the compute thread is held by a third, so that they begin together.
        let first = Gate()
        async let blocker = engine.makeSession().score([1, 2], stoppingAt: first, after: 1)
        await first.reached()
        let stream = try session.generate([1], options: GenerationOptions(250))
        let second = Gate()
        async let scores = engine.makeSession().score(text, stoppingAt: second, after: 10)
        try await engine.inboxHolds(2)
        first.open()
        await second.reached()
        // A chunk is one token: the prompt went first, then eleven tokens of each.
        #expect(session.position == 12)
        let reader = Task {
            var count = 0
            for try await _ in stream { count += 1 }
            return count
        }
        reader.cancel()
        let count = try await reader.value
        #expect(count <= 12)
        second.open()
        #expect(try await scores == alone, "the other request does not notice")
        #expect(try await blocker.count == 2)
        #expect(session.position == 12)
        // The cancelled timeline can be continued from where it stands.
        #expect(try await session.all([7], GenerationOptions(3)).count == 3)
    }

    @Test func cancelledScoringStopsBeforeTheNextStep() async throws {
        let engine = try Run(chunk: 1).engine(model())
        let session = try engine.makeSession()
        let text = Array(try TestModels.tokens("long").prefix(40))
        let gate = Gate()
        let task = Task { try await session.score(text, stoppingAt: gate, after: 10) }
        await gate.reached()
        task.cancel()
        gate.open()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(session.position == 11)
        // The session has been used, and can go on; the rest of the text is forgotten.
        await #expect(throws: LatheError.self) { try await session.score(text) }
        let expected = try await Run().engine(model()).makeSession()
            .all(Array(text.prefix(11)) + [9], GenerationOptions(5)).map(\.id)
        #expect(try await session.all([9], GenerationOptions(5)).map(\.id) == expected)
    }

    @Test func cancelledBeforeItsFirstStep() async throws {
        let engine = try Run(chunk: 2, sessions: 2).engine(model())
        let session = try engine.makeSession()
        let gate = Gate()
        async let scores = engine.makeSession().score([1, 2, 3], stoppingAt: gate, after: 1)
        await gate.reached()
        do { _ = try session.generate(prompt, options: GenerationOptions(9)) }
        gate.open()
        #expect(try await scores.count == 3)
        #expect(session.position == 0)
        let error = await #expect(throws: LatheError.self) { try await session.score([1]) }
        #expect(error?.code == .invalidRequest, "a prompt waits in this session")
        // What was not fed opens the next request, as documented for a timeline.
        let expected = try await Run().engine(model()).makeSession().all(prompt, GenerationOptions(5)).map(\.id)
        #expect(try await session.all([], GenerationOptions(5)).map(\.id) == expected)
    }
}
