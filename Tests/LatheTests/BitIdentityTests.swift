import Lathe
import LatheCompiler
import LatheFormat
import Testing

/// The promise: the same bits whatever the instruction set, the thread count, the prefill split and the batch mates.
@Suite struct BitIdentityTests {
    static let smallModels = TestModels.tiny + ["long"]
    static let weights: [WeightFormats] = [.int8, .int4, .float32]
    static let levels = InstructionSet.available.map(\.name)
    static let chunks = [1, 7, 64, 512]
    /// Those that round, for what is not tried with every type.
    static let roundedTypes: [KeyValueType] = [.float16, .int8]

    /// What everything is compared with: scalar kernels, one thread, the prompt at once.
    private func reference(_ name: String, _ weights: WeightFormats, _ type: KeyValueType) async throws -> [[UInt32]] {
        try await Run(instructionSet: "scalar", keyValueType: type).engine(TestModels.model(name, weights))
            .logitBits(TestModels.tokens(name))
    }

    @Test(arguments: smallModels, weights)
    func instructionSetsThreadsAndChunks(model name: String, weights: WeightFormats) async throws {
        let model = try TestModels.model(name, weights)
        let tokens = try TestModels.tokens(name)
        for type in KeyValueType.allCases {
            let expected = try await reference(name, weights, type)
            for level in Self.levels {
                for threads in [1, 2, 3] {
                    for chunk in Self.chunks {
                        let run = Run(instructionSet: level, threads: threads, chunk: chunk, keyValueType: type)
                        let difference = firstDifference(try await run.engine(model).logitBits(tokens), expected)
                        #expect(difference == nil, "\(run)")
                    }
                }
            }
        }
    }

    /// The trained model, whose activations have real outliers; fewer combinations, since it is a thousand times larger.
    @Test(arguments: weights, roundedTypes)
    func trainedModel(weights: WeightFormats, type: KeyValueType) async throws {
        let model = try TestModels.model("novelist", weights)
        let tokens = Array(try TestModels.tokens("novelist").prefix(70))
        let expected = try await Run(instructionSet: "scalar", threads: 2, keyValueType: type).engine(model)
            .logitBits(tokens)
        for level in Self.levels where level != "scalar" {
            for (threads, chunk) in [(1, 512), (2, 7), (2, 64)] {
                let run = Run(instructionSet: level, threads: threads, chunk: chunk, keyValueType: type)
                let difference = firstDifference(try await run.engine(model).logitBits(tokens), expected)
                #expect(difference == nil, "\(run)")
            }
        }
    }

    /// How weights are stored is no arithmetic: sparse ones multiply like the dense ones that they encode.
    @Test(arguments: smallModels + ["novelist"], [WeightFormats.int8, .int4])
    func sparseIsDense(model name: String, weights: WeightFormats) async throws {
        let sparse = try TestModels.model(name, weights, sparse: .on)
        #expect(sparse.file.graph.parameters.contains { $0.encoding.quantized?.packedByteCount != nil })
        let tokens = Array(try TestModels.tokens(name).prefix(70))
        let expected = try await Run(threads: 2).engine(TestModels.model(name, weights, sparse: .off)).logitBits(tokens)
        for level in Self.levels {
            for (threads, chunk) in [(1, 512), (2, 7), (3, 64)] {
                let run = Run(instructionSet: level, threads: threads, chunk: chunk)
                #expect(firstDifference(try await run.engine(sparse).logitBits(tokens), expected) == nil, "\(run)")
            }
        }
    }

    /// Two and three sessions of one engine, begun at different times, one generating while the others are scored.
    @Test(arguments: smallModels, weights)
    func batchMates(model name: String, weights: WeightFormats) async throws {
        for type in Self.roundedTypes { try await batchMates(name, weights, type) }
    }

    private func batchMates(_ name: String, _ weights: WeightFormats, _ type: KeyValueType) async throws {
        let model = try TestModels.model(name, weights)
        let tokens = try TestModels.tokens(name)
        let expected = try await reference(name, weights, type)
        let prompt = Array(tokens.prefix(9))
        let alone = try await Run(keyValueType: type).engine(model).makeSession()
            .all(prompt, GenerationOptions(20) { $0.topLogProbabilities = 1 })
        for level in Self.levels {
            for (threads, chunk) in [(1, 5), (2, 16), (2, 512)] {
                let run = Run(
                    instructionSet: level, threads: threads, chunk: chunk, keyValueType: type, sessions: 3)
                let engine = try run.engine(model)
                let generating = try engine.makeSession().generate(
                    prompt, options: GenerationOptions(20) { $0.topLogProbabilities = 1 })
                var iterator = generating.makeAsyncIterator()
                var generated = [try #require(try await iterator.next())]
                // The generation is at its first token; now others join.
                async let first = engine.logitBits(tokens)
                generated.append(try #require(try await iterator.next()))
                async let second = engine.logitBits(tokens)
                while let token = try await iterator.next() { generated.append(token) }
                let scored = try await [first, second]
                #expect(scored.allSatisfy { firstDifference($0, expected) == nil }, "\(run)")
                #expect(generated.map(\.id) == alone.map(\.id), "\(run)")
                #expect(
                    generated.map { $0.logProbability?.bitPattern } == alone.map { $0.logProbability?.bitPattern },
                    "\(run)")
            }
        }
    }

    /// A text continued one token a request has, at each token, what one pass over the whole text gives.
    @Test(arguments: smallModels, weights)
    func cachedIsUncached(model name: String, weights: WeightFormats) async throws {
        let model = try TestModels.model(name, weights)
        let count = model.configuration.vocabularySize
        let options = GenerationOptions(1) { $0.topLogProbabilities = count }
        for (level, type) in Self.levels.flatMap({ level in Self.roundedTypes.map { (level, $0) } }) {
            let run = Run(instructionSet: level, threads: 2, keyValueType: type)
            let session = try run.engine(model).makeSession()
            var text = Array(try TestModels.tokens(name).prefix(3))
            var cached: [[UInt32]] = []
            var prompt = text
            for _ in 0..<25 {
                let token = try #require(try await session.all(prompt, options).last)
                cached.append(bitsByID(token.topLogProbabilities))
                text.append(token.id)
                prompt = []
            }
            let whole = try await run.engine(model).makeSession().score(text, topCount: count)
            #expect(cached == whole.dropFirst(3).map { bitsByID($0.topLogProbabilities) }, "\(run)")
        }
    }

    private func bitsByID(_ tokens: [TokenLogProbability]) -> [UInt32] {
        tokens.sorted { $0.id < $1.id }.map(\.logProbability.bitPattern)
    }
}
