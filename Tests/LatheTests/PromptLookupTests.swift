import LatheFormat
import Synchronization
import Testing

@testable import Lathe

/// Guessing ahead by what stood before: fewer passes over the weights, the same tokens to the bit.
@Suite struct PromptLookupTests {
    // MARK: What is guessed

    @Test(arguments: [
        ([1, 2, 3, 4, 5, 1, 2], 3, 2, [4, 5]),
        // What is guessed goes on with what stands behind the place, the guesses included.
        ([1, 2, 3, 4, 5, 1, 2], 3, 9, [4, 5, 1, 2, 3, 4, 5, 1, 2]),
        // The latest place where two tokens agree; an earlier one where three do comes before it.
        ([2, 3, 7, 2, 3, 8, 2], 3, 1, [8]),
        ([1, 2, 3, 7, 9, 2, 3, 8, 1, 2], 3, 1, [7]),
        // One token is not enough.
        ([1, 2, 3, 4, 3], 9, 4, []), ([4, 3, 2, 8], 3, 4, []), ([1, 2], 3, 4, []), ([5], 5, 4, []), ([], 5, 4, []),
        // A token again and again.
        ([5, 5], 5, 3, [5, 5, 5]), ([7, 5, 5, 5], 5, 2, [5, 5]),
        ([1, 2, 3, 1, 2], 3, 0, []), ([1, 2, 3, 1, 2], 3, -1, []),
    ])
    func guesses(tokens: [Int32], next: Int32, count: Int, expected: [Int32]) {
        let timeline = Timeline(capacityTokens: 64)
        timeline.advance(by: tokens)
        let request = Request(timeline: timeline, tokens: [], maximumGuesses: 9)
        request.feed(next)
        for _ in 0..<2 {
            request.lookUp(count)
            #expect(Array(request.pendingAndGuesses) == [next] + expected)
        }
        #expect(Array(request.pending) == [next])
    }

    // MARK: What comes of it

    private static let changes: [(String, @Sendable (inout GenerationOptions) -> Void)] = [
        ("greedy", { _ in }),
        ("penalized", { $0.repetitionPenalty = 1.05 }),
        ("sampled", { ($0.temperature, $0.topP) = (0.7, 0.9) }),
        ("likely", { ($0.temperature, $0.topK) = (0.3, 3) }),
    ]

    /// A text that repeats itself, as code and quotations do.
    private func prompt() throws -> [Int32] {
        let tokens = Array(try TestModels.tokens("long").prefix(12))
        return tokens + tokens + tokens.prefix(5)
    }

    @Test(arguments: [1, 3, 7, 64], [KeyValueType.float32, .int8])
    func sameTokens(lookup: Int, type: KeyValueType) async throws {
        let model = try TestModels.model("long", .int8)
        let prompt = try prompt()
        for (name, change) in Self.changes {
            var options = GenerationOptions(90) {
                $0.seed = 11
                $0.topLogProbabilities = 2
            }
            change(&options)
            let expected = try await Run(keyValueType: type).engine(model).makeSession().all(prompt, options)
            options.promptLookup = lookup
            for chunk in [1, 4, 512] {
                for threads in [1, 2] {
                    let run = Run(threads: threads, chunk: chunk, keyValueType: type)
                    let session = try run.engine(model).makeSession()
                    #expect(try await session.all(prompt, options) == expected, "\(name), \(run)")
                    // The last token is sampled, not stored, however far the guesses reached.
                    #expect(session.position == prompt.count + 89)
                }
            }
        }
    }

    /// Continuations side by side, some of which guess; and each goes on in a second call, as if it had never guessed.
    @Test func sameTokensInCompanyAndInASecondCall() async throws {
        let model = try TestModels.model("long", .int8)
        let prompt = try prompt()
        func options(_ number: Int, lookup: Int) -> GenerationOptions {
            GenerationOptions(30 + 7 * number) {
                $0.promptLookup = lookup
                $0.temperature = number == 2 ? 0.4 : 0
                $0.seed = 3
            }
        }
        func continuation(_ session: Session, _ number: Int, lookup: Int) async throws -> [Int32] {
            let start = Array(prompt.dropFirst(number))
            let first = try await session.all(start, options(number, lookup: lookup)).map(\.id)
            return try await first + session.all([7], options(number, lookup: lookup)).map(\.id)
        }
        var expected: [[Int32]] = []
        for number in 0..<4 {
            expected.append(try await continuation(Run().engine(model).makeSession(), number, lookup: 0))
        }
        let engine = try Run(threads: 2, chunk: 8, sessions: 4).engine(model)
        for _ in 0..<3 {
            try await withThrowingTaskGroup(of: (Int, [Int32]).self) { group in
                for number in 0..<4 {
                    let session = try engine.makeSession()
                    group.addTask { (number, try await continuation(session, number, lookup: number == 1 ? 0 : 6)) }
                }
                for try await (number, ids) in group { #expect(ids == expected[number], "\(number)") }
            }
        }
    }

    /// To the last place of the session, where nothing behind it may be written.
    @Test func fillsASessionToItsEnd() async throws {
        let model = try TestModels.model("long", .int8)
        let prompt = try prompt()
        for capacity in [64, 65, 100] {
            var options = GenerationOptions(capacity - prompt.count)
            let expected = try await Run().engine(model).makeSession(tokens: capacity).all(prompt, options)
            options.promptLookup = 16
            let found = try await Run().engine(model).makeSession(tokens: capacity).all(prompt, options)
            #expect(found == expected)
        }
    }

    @Test func stopStringsEndInTheMiddleOfGuesses() async throws {
        let model = try TestModels.model("novelist")
        let prompt = try #require(model.tokenizer).encode("the sea, the sea, the sea, the sea, the")
        var options = GenerationOptions(30) { $0.stop = ["sea, the sea, the s"] }
        let session = try Run().engine(model).makeSession()
        let expected = try await session.all(prompt, options)
        options.promptLookup = 7
        let guessing = try Run().engine(model).makeSession()
        #expect(try await guessing.all(prompt, options) == expected)
        #expect(guessing.position == session.position)
        // What is fed next stands behind the same text.
        options.stop = []
        #expect(try await guessing.all([], options) == session.all([], options))
    }

    /// What it is for: once the text repeats, a pass gives several tokens.
    @Test func fewerPasses() async throws {
        let model = try TestModels.model("long", .int8)
        func passes(lookup: Int) async throws -> (tokens: [Int32], count: Int) {
            let engine = try Run().engine(model)
            let entries = Mutex(0)
            await engine.watch { phase in if phase == .step { entries.withLock { $0 += 1 } } }
            let tokens = try await engine.makeSession().all(
                prompt(), GenerationOptions(150) { $0.promptLookup = lookup }
            ).map(\.id)
            // Three for each pass, and one behind each token.
            return (tokens, (entries.withLock { $0 } - tokens.count) / 3)
        }
        let (plain, guessing) = (try await passes(lookup: 0), try await passes(lookup: 7))
        #expect(plain.tokens == guessing.tokens)
        #expect(plain.count >= 150 && guessing.count * 2 < plain.count, "\(plain.count), \(guessing.count)")
    }

    @Test(arguments: [-1, 65])
    func outOfRangeIsRefused(lookup: Int) throws {
        let session = try Run().engine(TestModels.model("long")).makeSession()
        let error = try #require(throws: LatheError.self) {
            _ = try session.generate([1], options: GenerationOptions(1) { $0.promptLookup = lookup })
        }
        #expect(error.code == .invalidRequest && error.message.contains("\(lookup)"))
    }
}
