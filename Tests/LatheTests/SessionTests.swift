import LatheFormat
import Synchronization
import Testing

@testable import Lathe

/// What a session promises beside its numbers: timelines, admission, and the text it gives out.
@Suite struct SessionTests {
    private func refusal<R>(_ body: () async throws -> R) async throws -> LatheError {
        try #require(await #expect(throws: LatheError.self) { _ = try await body() })
    }

    // MARK: Timelines

    @Test(arguments: [Float(1), 1.3])
    func severalCallsAreOneLongCall(penalty: Float) async throws {
        let engine = try Run(chunk: 7).engine(TestModels.model("long"))
        let prompt = Array(try TestModels.tokens("long").prefix(20))
        func options(_ count: Int) -> GenerationOptions { GenerationOptions(count) { $0.repetitionPenalty = penalty } }
        let whole = try await engine.makeSession().all(prompt, options(120)).map(\.id)
        let session = try Run(chunk: 7).engine(TestModels.model("long")).makeSession()
        var parts: [Int32] = []
        for count in [1, 1, 30, 64, 24] {
            parts += try await session.all(parts.isEmpty ? prompt : [], options(count)).map(\.id)
            // The last token is sampled, not stored yet: it opens the next request.
            #expect(session.position == prompt.count + parts.count - 1)
        }
        #expect(parts == whole)
    }

    @Test(arguments: [1, 5, 512])
    func promptIsScoredWhileItIsContinued(chunk: Int) async throws {
        let model = try TestModels.model("long")
        let prompt = Array(try TestModels.tokens("long").prefix(40))
        let options = GenerationOptions(10) { $0.topLogProbabilities = 2 }
        let engine = try Run(chunk: chunk).engine(model)
        let scored = Mutex<[TokenScore]>([])
        var generated: [GeneratedToken] = []
        let session = try engine.makeSession()
        for try await token in try session.generate(
            prompt, options: options, onPromptScore: { score in scored.withLock { $0.append(score) } })
        {
            // All of them are there before the first token.
            #expect(scored.withLock { $0.count } == prompt.count)
            generated.append(token)
        }
        #expect(try await Run().engine(model).makeSession().score(prompt, topCount: 2) == scored.withLock { $0 })
        #expect(try await Run().engine(model).makeSession().all(prompt, options) == generated)
    }

    /// Prompts are fed by the shortest rest, the oldest a quarter of the chunk at least: seen by the order of their scores.
    @Test func longPromptDoesNotHoldUpAShortOne() async throws {
        let engine = try Run(chunk: 8, sessions: 3).engine(TestModels.model("long"))
        let tokens = try TestModels.tokens("long")
        let order = Mutex<[String]>([])
        let gate = Gate()
        let holder = Task {
            try await engine.makeSession().score(Array(tokens.prefix(3)), stoppingAt: gate, after: 1)
        }
        await gate.reached()
        var readers: [Task<Void, any Error>] = []
        for (name, count) in [("long", 200), ("short", 6)] {
            let session = try engine.makeSession()
            let stream = try session.generate(
                Array(tokens.prefix(count)), options: GenerationOptions(1),
                onPromptScore: { _ in order.withLock { $0.append(name) } })
            readers.append(Task { for try await _ in stream {} })
        }
        try await engine.inboxHolds(2)
        gate.open()
        for reader in readers { try await reader.value }
        _ = try await holder.value
        let found = order.withLock { $0 }
        // The first step: two tokens of the long prompt (of which the first tells two scores), all six of the short one.
        #expect(Array(found.prefix(9)) == ["long", "long", "long"] + Array(repeating: "short", count: 6))
        #expect(found.count == 206)
    }

    @Test func sessionsShareTheCache() throws {
        var options = EngineOptions()
        options.maximumSessions = 4
        options.keyValueTokens = 320
        let engine = try Engine(model: TestModels.model("long"), options: options)
        #expect(engine.keyValueTokens.total == 320 && engine.keyValueTokens.promised == 0)
        do {
            let first = try engine.makeSession(tokens: 65)
            let second = try engine.makeSession(tokens: 190)
            #expect(first.capacity == 65 && engine.keyValueTokens.promised == 320 && engine.sessionCount == 2)
            let error = #expect(throws: LatheError.self) { try engine.makeSession(tokens: 1) }
            #expect(error?.code == .budget && error?.message.contains("5") == true)
            withExtendedLifetime((first, second)) {}
        }
        #expect(engine.keyValueTokens.promised == 0 && engine.sessionCount == 0)
        for wrong in [0, -1, 302] {
            #expect(throws: LatheError.self) { try engine.makeSession(tokens: wrong) }
        }
        options.keyValueTokens = 300
        #expect(throws: LatheError.self) { try Engine(model: TestModels.model("long"), options: options) }
    }

    @Test func sessionHoldsWhatItWasMadeFor() async throws {
        let engine = try Run().engine(TestModels.model("long"))
        let session = try engine.makeSession(tokens: 20)
        let error = try await refusal { try await session.all(Array(repeating: 1, count: 11), GenerationOptions(10)) }
        #expect(error.message.contains("session of 20"))
        #expect(try await session.all(Array(repeating: 1, count: 10), GenerationOptions(10)).count == 10)
    }

    @Test func promptsContinueATimeline() async throws {
        let model = try TestModels.model("long")
        let tokens = try TestModels.tokens("long")
        let session = try Run().engine(model).makeSession()
        let first = try await session.all(Array(tokens[0..<10]), GenerationOptions(5)).map(\.id)
        let second = try await session.all(Array(tokens[10..<20]), GenerationOptions(5)).map(\.id)
        let whole = try await Run().engine(model).makeSession()
            .all(Array(tokens[0..<10]) + first + tokens[10..<20], GenerationOptions(5)).map(\.id)
        #expect(second == whole)
    }

    @Test func emptyPromptIsTheBeginningOfText() async throws {
        let model = try TestModels.model("tiny-gpt2")
        let empty = try await Run().engine(model).makeSession().all([], GenerationOptions(10)).map(\.id)
        let explicit = try await Run().engine(model).makeSession().all([99], GenerationOptions(10)).map(\.id)
        #expect(empty == explicit)
    }

    @Test func emptyPromptWithoutBeginningOfText() async throws {
        let session = try Run().engine(TestModels.model("odd-gpt2")).makeSession()
        #expect(try await refusal { try session.generate([]) }.code == .invalidRequest)
        // The refusal leaves the session usable.
        #expect(try await session.all([1], GenerationOptions(2)).count == 2)
    }

    @Test func emptyPromptAfterScoring() async throws {
        let session = try Run().engine(TestModels.model("tiny-gpt2")).makeSession()
        _ = try await session.score([1, 2, 3])
        #expect(try await refusal { try session.generate([]) }.code == .invalidRequest)
        #expect(try await session.all([4], GenerationOptions(2)).count == 2)
    }

    // MARK: Admission

    @Test func busySessionIsRefused() async throws {
        let engine = try Run(sessions: 2).engine(TestModels.model("tiny-gpt2"))
        let session = try engine.makeSession()
        let gate = Gate()
        async let scores = session.score([1, 2, 3], stoppingAt: gate, after: 1)
        await gate.reached()
        for _ in 0..<2 {
            let error = try await refusal { try session.generate([1]) }
            #expect(error.code == .invalidRequest && error.message.contains("still working"))
        }
        gate.open()
        #expect(try await scores.count == 3)
        #expect(try await session.all([1], GenerationOptions(3)).count == 3)
    }

    @Test func moreSessionsThanPromised() throws {
        let engine = try Run(sessions: 2).engine(TestModels.model("tiny-gpt2"))
        var sessions = [try engine.makeSession(), try engine.makeSession()]
        for _ in 0..<3 {
            let error = #expect(throws: LatheError.self) { try engine.makeSession() }
            #expect(error?.code == .budget && error?.message.contains("2 session") == true)
        }
        sessions.removeLast()
        sessions.append(try engine.makeSession())
        #expect(throws: LatheError.self) { try engine.makeSession() }
    }

    @Test func contextLimit() async throws {
        let model = try TestModels.model("long")
        let tokens = try TestModels.tokens("long")
        for length in [1, 2, 63, 64, 65, 100, 129, 301] {
            let engine = try Run(chunk: 16).engine(model, contextLength: length)
            if length > 1 {
                let session = try engine.makeSession()
                let exact = try await session.all(Array(tokens.prefix(length - 1)), GenerationOptions(1))
                #expect(exact.count == 1)
                // One token is sampled and one place is left: nothing new fits behind it.
                let error = try await refusal { try session.generate([], options: GenerationOptions(1)) }
                #expect(error.message.contains("\(length) prompt tokens and 1 new"), "\(error)")
            }
            let session = try engine.makeSession()
            let error = try await refusal {
                try session.generate(Array(tokens.prefix(length)), options: GenerationOptions(7))
            }
            #expect(error.code == .invalidRequest)
            #expect(error.message.contains("\(length) prompt tokens and 7 new"), "\(error)")
            #expect(error.message.contains("context of \(length)"), "\(error)")
            #expect(try await session.score(Array(tokens.prefix(length))).count == length)
        }
    }

    @Test func scoringBeyondTheContext() async throws {
        let engine = try Run().engine(TestModels.model("long"), contextLength: 65)
        let tokens = Array(try TestModels.tokens("long").prefix(66))
        let error = try await refusal { try await engine.makeSession().score(tokens) }
        #expect(error.code == .invalidRequest && error.message.contains("66") && error.message.contains("65"))
    }

    /// Every session may fill its whole context at once, whatever the block size leaves over.
    @Test(arguments: [63, 65, 100])
    func allSessionsFillTheirContext(length: Int) async throws {
        let engine = try Run(chunk: 30, sessions: 3).engine(TestModels.model("long"), contextLength: length)
        let tokens = Array(try TestModels.tokens("long").prefix(length - 40))
        // Dropped and made anew: the blocks must have come back.
        for _ in 0..<3 {
            let sessions = try (0..<3).map { _ in try engine.makeSession() }
            try await withThrowingTaskGroup(of: [Int32].self) { group in
                for session in sessions {
                    group.addTask { try await session.all(tokens, GenerationOptions(40)).map(\.id) }
                }
                var results: [[Int32]] = []
                for try await result in group { results.append(result) }
                #expect(results.count == 3 && Set(results).count == 1 && results[0].count == 40)
            }
        }
    }

    @Test(arguments: [-1, 101, Int32.max, Int32.min])
    func idsOutOfRange(id: Int32) async throws {
        let session = try Run().engine(TestModels.model("tiny-gpt2")).makeSession()
        let generation = try await refusal { try session.generate([1, id, 2]) }
        #expect(generation.code == .invalidRequest && generation.message.contains("\(id)"))
        let scoring = try await refusal { try await session.score([id]) }
        #expect(scoring.code == .invalidRequest && scoring.message.contains("\(id)"))
        #expect(try await session.score([0, 100]).count == 2, "the session is still usable")
    }

    @Test func engineOptionsOutOfRange() throws {
        let model = try TestModels.model("tiny-gpt2")
        for change: (inout EngineOptions) -> Void in [
            { $0.contextLength = 65 }, { $0.contextLength = 0 }, { $0.contextLength = -1 }, { $0.maximumSessions = 0 },
            { $0.prefillChunk = 0 }, { $0.prefillChunk = -5 }, { $0.threads = 0 }, { $0.threads = 100_000 },
        ] {
            var options = EngineOptions()
            change(&options)
            let error = #expect(throws: LatheError.self) { try Engine(model: model, options: options) }
            #expect(error?.code == .invalidRequest)
        }
        var options = EngineOptions()
        options.instructionSet = "avx1024"
        let error = #expect(throws: LatheError.self) { try Engine(model: model, options: options) }
        #expect(error?.code == .unsupported)
        #expect(InstructionSet.available.allSatisfy { error?.message.contains($0.name) == true })
    }

    @Test func stopStringsNeedATokenizer() async throws {
        let session = try Run().engine(TestModels.model("tiny-gpt2")).makeSession()
        let error = try await refusal { try session.generate([1], options: GenerationOptions(1) { $0.stop = ["x"] }) }
        #expect(error.code == .invalidRequest)
    }

    // MARK: Scores and log-probabilities

    @Test func scoreOfOneToken() async throws {
        let session = try Run().engine(TestModels.model("tiny-gpt2")).makeSession()
        let (scores, logits) = try await session.logits([5])
        #expect(scores == [TokenScore(id: 5, logProbability: nil, topLogProbabilities: [])])
        #expect(logits.count == 1 && logits[0].count == 101)
        let silent = try Run().engine(TestModels.model("tiny-gpt2")).makeSession()
        #expect(try await silent.score([5]).count == 1)
    }

    @Test func scoringRefusals() async throws {
        let session = try Run().engine(TestModels.model("tiny-gpt2")).makeSession()
        #expect(try await refusal { try await session.score([]) }.code == .invalidRequest)
        _ = try await session.score([1, 2])
        #expect(try await refusal { try await session.score([1, 2]) }.code == .invalidRequest)
    }

    @Test func logProbabilities() async throws {
        let model = try TestModels.model("gelu-gpt2")
        let prompt = Array(try TestModels.tokens("gelu-gpt2").prefix(12))
        let count = model.configuration.vocabularySize
        let tokens = try await Run().engine(model).makeSession().all(
            prompt,
            GenerationOptions(20) {
                $0.topLogProbabilities = count
                $0.temperature = 1.5
                $0.seed = 3
                $0.repetitionPenalty = 1.4
            })
        for token in tokens {
            let likeliest = token.topLogProbabilities
            #expect(likeliest.count == count && Set(likeliest.map(\.id)).count == count)
            let sum = likeliest.reduce(0.0) { $0 + _exp(Double($1.logProbability)) }
            #expect(abs(sum - 1) < 1e-5)
            for (a, b) in zip(likeliest, likeliest.dropFirst()) {
                #expect(a.logProbability > b.logProbability || (a.logProbability == b.logProbability && a.id < b.id))
            }
            #expect(likeliest.first { $0.id == token.id }?.logProbability == token.logProbability)
        }
        // Under the model, before any sampling option: as scoring the same text says.
        let scores = try await Run().engine(model).makeSession().score(prompt + tokens.map(\.id), topCount: 3)
        #expect(scores.dropFirst(prompt.count).map(\.logProbability) == tokens.map(\.logProbability))
        #expect(
            scores.dropFirst(prompt.count).map(\.topLogProbabilities)
                == tokens.map { Array($0.topLogProbabilities.prefix(3)) })
    }

    @Test func logProbabilitiesOnlyWhereAsked() async throws {
        let session = try Run().engine(TestModels.model("tiny-gpt2")).makeSession()
        let silent = try await session.all([1], GenerationOptions(2))
        #expect(silent.allSatisfy { $0.logProbability == nil && $0.topLogProbabilities.isEmpty })
        let zero = try await session.all([], GenerationOptions(2) { $0.topLogProbabilities = 0 })
        #expect(zero.allSatisfy { $0.logProbability != nil && $0.topLogProbabilities.isEmpty })
    }

    // MARK: The end of a continuation

    @Test(arguments: [1, 2, 30])
    func maximumTokens(count: Int) async throws {
        let session = try Run().engine(TestModels.model("tiny-gpt2")).makeSession()
        let tokens = try await session.all([1], GenerationOptions(count))
        #expect(tokens.count == count)
        #expect(tokens.map(\.finishReason) == Array(repeating: nil, count: count - 1) + [.length])
    }

    @Test func endOfTextEndsOrIsPassed() async throws {
        let model = try TestModels.model("gelu-gpt2")
        let reference = try GoldenReference("gelu-gpt2")
        let options = GenerationOptions(16) { $0.ignoresEndOfText = false }
        let session = try Run().engine(model).makeSession()
        let ended = try await session.all(reference.promptIDs, options)
        #expect(ended.last?.finishReason == .endOfText && ended.last?.id == 79 && ended.last?.text == "")
        // The timeline goes on behind it as if it had been ignored.
        let rest = try await session.all([], GenerationOptions(16 - ended.count))
        #expect((ended + rest).map(\.id) == reference.greedyIDs)
        // An end that comes with the last token asked for is still an end.
        let exact = try await Run().engine(model).makeSession().all(
            reference.promptIDs, GenerationOptions(ended.count) { $0.ignoresEndOfText = false })
        #expect(exact.last?.finishReason == .endOfText)
    }

    // MARK: Sampling in company

    @Test func batchMatesDoNotChangeADraw() async throws {
        let model = try TestModels.model("long", .int8)
        let prompt = Array(try TestModels.tokens("long").prefix(10))
        func options(_ seed: UInt64) -> GenerationOptions {
            GenerationOptions(60) {
                $0.temperature = 1
                $0.topP = 0.95
                $0.seed = seed
            }
        }
        let alone = try await Run().engine(model).makeSession().all(prompt, options(9)).map(\.id)
        let engine = try Run(threads: 2, chunk: 4, sessions: 4).engine(model)
        for _ in 0..<3 {
            try await withThrowingTaskGroup(of: (UInt64, [Int32]).self) { group in
                for seed: UInt64 in [9, 10, 11, 9] {
                    let session = try engine.makeSession()
                    group.addTask { (seed, try await session.all(prompt, options(seed)).map(\.id)) }
                }
                for try await (seed, ids) in group { #expect((ids == alone) == (seed == 9)) }
            }
        }
        let unseeded = GenerationOptions(60) { $0.temperature = 1 }
        let first = try await engine.makeSession().all(prompt, unseeded).map(\.id)
        let second = try await engine.makeSession().all(prompt, unseeded).map(\.id)
        // 131^60 continuations: equal ones would mean that the seed is not drawn.
        #expect(first != second)
    }
}
