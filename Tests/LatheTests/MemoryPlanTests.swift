import LatheCompiler
import LatheFormat
import TestSupport
import Testing

@testable import Lathe

/// What is planned is what is taken, on every instruction set and for every format; and nothing more ever is.
@Suite struct MemoryPlanTests {
    private static let formats: [(WeightFormats, SparseStorage)] = [
        (.float32, .auto), (.int8, .off), (.int8, .on), (.int4, .off), (.int4, .on),
    ]

    private func options(_ change: (inout EngineOptions) -> Void = { _ in }) -> EngineOptions {
        var options = EngineOptions()
        options.threads = 2
        options.memoryBudget = 1 << 40
        change(&options)
        return options
    }

    @Test(arguments: InstructionSet.available.map(\.name), formats.indices)
    func ledgerEndsWherePlanSays(level: String, format: Int) async throws {
        let (weights, sparse) = Self.formats[format]
        for name in ["odd-gpt2", "long"] {
            let model = try TestModels.model(name, weights, sparse: sparse)
            let plan = try MemoryPlan(
                model: model,
                options: options {
                    $0.instructionSet = level
                    $0.maximumSessions = 3
                    $0.prefillChunk = 20
                })
            let ledger = plan.makeLedger()
            do {
                let engine = try Engine(model: model, plan: plan, ledger: ledger)
                let session = try engine.makeSession()
                _ = try await session.score(Array(try TestModels.tokens(name).prefix(engine.contextLength)))
                for category in [MemoryCategory.keyValueCache, .activations, .tokenizer] {
                    #expect(ledger.current(category) == plan.byteCount(category), "\(category)")
                }
                #expect(ledger.current(.weights) == engine.residentWeightBytes)
                #expect(ledger.current(.weights) == plan.layout.weights.byteCount)
                #expect(ledger.peak(.weights) <= plan.layout.weights.peakByteCount)
                #expect(ledger.current(.windows) + ledger.current(.server) + ledger.current(.runtime) == 0)
            }
        }
    }

    /// The weights' bound is no idle one: a byte less, and loading is refused.
    @Test(arguments: InstructionSet.available.map(\.name), formats.indices)
    func peakOfLoadingIsReached(level: String, format: Int) throws {
        let (weights, sparse) = Self.formats[format]
        let model = try TestModels.model("long", weights, sparse: sparse)
        let plan = try MemoryPlan(model: model, options: options { $0.instructionSet = level })
        let ledger = MemoryLedger()
        _ = try Engine(model: model, plan: plan, ledger: ledger)
        // Of parts that are mapped from the start, the ledger hears as they are bound, so it may see less.
        if plan.layout.weights.source == .inPlace {
            #expect(ledger.peak(.weights) == plan.layout.weights.peakByteCount)
        } else {
            #expect(ledger.peak(.weights) <= plan.layout.weights.peakByteCount)
        }
    }

    @Test func everyRefusedRequestIsAnErrorAndLeavesNothing() async throws {
        for (weights, sparse) in Self.formats {
            let model = try TestModels.model("odd-gpt2", weights, sparse: sparse)
            let plan = try MemoryPlan(model: model, options: options())
            let complete = plan.makeLedger()
            _ = try Engine(model: model, plan: plan, ledger: complete).makeSession()
            #expect(complete.requestCount > 20 && complete.current == 0)
            for request in 0..<complete.requestCount {
                let ledger = plan.makeLedger(failing: { $0 == request })
                let error = #expect(throws: LatheError.self) {
                    try Engine(model: model, plan: plan, ledger: ledger).makeSession()
                }
                #expect(error?.code == .budget && ledger.current == 0, "request \(request)")
            }
            // The model is as good as before.
            let engine = try Engine(model: model, plan: plan)
            _ = try await engine.makeSession().all([1, 2], GenerationOptions(3))
        }
    }

    @Test func planComesFromTheHeaderAlone() throws {
        let folder = try TemporaryFolder()
        let path = folder.path("model.lathe")
        _ = try Compiler(weights: .int8).compile(checkpoint: "\(TestModels.golden)/tiny-gpt2", output: path)
        let expected = try MemoryPlan(model: try Model.open(path), options: options())
        var bytes = try Files.read(path).array()
        let header = 8 + bytes[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
        for index in header..<bytes.count { bytes[index] = 0xFF }
        try folder.write(bytes, to: "model.lathe")
        #expect(throws: LatheError.self) { try Model.open(path) }
        let plan = try MemoryPlan(path: path, options: options())
        for category in MemoryCategory.allCases {
            #expect(plan.byteCount(category) == expected.byteCount(category), "\(category)")
        }
        #expect(plan.totalByteCount == MemoryCategory.allCases.reduce(0) { $0 + plan.byteCount($1) })
    }

    @Test func engineRefusesWhatDoesNotFit() throws {
        let model = try TestModels.model("long", .int8)
        let fitting = try MemoryPlan(model: model, options: options { $0.maximumSessions = 2 })
        for (budget, fits) in [(fitting.totalByteCount, true), (fitting.totalByteCount - 1, false)] {
            let options = options {
                $0.maximumSessions = 2
                $0.memoryBudget = budget
            }
            let plan = try MemoryPlan(model: model, options: options)
            #expect(plan.fits == fits)
            if fits {
                _ = try Engine(model: model, options: options)
            } else {
                let error = #expect(throws: LatheError.self) { try Engine(model: model, options: options) }
                #expect(error?.code == .budget)
                #expect(error?.message.contains("\(budget)") == true)
            }
        }
    }

    @Test func planOfAnotherModelIsRefused() throws {
        let plan = try MemoryPlan(model: try TestModels.model("tiny-gpt2", .int8), options: options())
        let error = #expect(throws: LatheError.self) {
            try Engine(model: try TestModels.model("tiny-gpt2", .float32), plan: plan)
        }
        #expect(error?.code == .invalidRequest)
    }

    @Test func mostSessionsAreTheMost() throws {
        let model = try TestModels.model("long", .int8)
        for extra in [0, 1, 100_000, 5_000_000] {
            let one = try MemoryPlan(model: model, options: options())
            let budget = one.totalByteCount + extra
            let most = try #require(
                try MemoryPlan(model: model, options: options { $0.memoryBudget = budget }).maximumSessions)
            #expect(most >= 1)
            for (sessions, fits) in [(most, true), (most + 1, false)] {
                let plan = try MemoryPlan(
                    model: model,
                    options: options {
                        $0.memoryBudget = budget
                        $0.maximumSessions = sessions
                    })
                #expect(plan.fits == fits, "\(sessions) sessions in \(budget)")
            }
        }
    }

    /// Budgets from far too small to just too small: whatever is suggested fits, and is what it says.
    @Test func suggestionsFit() throws {
        for (weights, sparse) in Self.formats {
            let model = try TestModels.model("long", weights, sparse: sparse)
            let whole = try MemoryPlan(
                model: model,
                options: options {
                    $0.maximumSessions = 20
                    $0.runtimeBytes = 1000
                })
            var kinds: Set<String> = []
            for part in stride(from: 0.05, to: 1, by: 0.05) {
                let options = options {
                    $0.maximumSessions = 20
                    $0.runtimeBytes = 1000
                    $0.memoryBudget = Int(Double(whole.totalByteCount) * part)
                }
                let plan = try MemoryPlan(model: model, options: options)
                #expect(!plan.fits)
                for suggestion in plan.suggestions() {
                    var changed = options
                    var outline = model.file.outline
                    for index in stride(from: 0, to: suggestion.arguments.count, by: 2) {
                        let value = suggestion.arguments[index + 1]
                        kinds.insert(suggestion.arguments[index])
                        switch suggestion.arguments[index] {
                        case "--kv": changed.keyValueType = KeyValueType(rawValue: value)
                        case "--sessions": changed.maximumSessions = try #require(Int(value))
                        case "--context": changed.contextLength = Int(value)
                        case "--prefill-chunk": changed.prefillChunk = try #require(Int(value))
                        case "--weights": outline = try #require(HypotheticalWeights(rawValue: value)).outline(outline)
                        default: Issue.record("\(suggestion.arguments[index])")
                        }
                    }
                    let result = try MemoryPlan(outline: outline, options: changed)
                    #expect(result.fits && result.totalByteCount == suggestion.totalByteCount, "\(suggestion)")
                }
            }
            #expect(kinds.isSuperset(of: ["--sessions", "--context"]), "\(kinds)")
        }
    }

    @Test(arguments: WeightPlacement.allCases) func placementChangesNoResult(placement: WeightPlacement) async throws {
        let folder = try TemporaryFolder()
        let path = folder.path("model.lathe")
        for sparse in [SparseStorage.off, .on] {
            _ = try Compiler(recipe: Recipe(weights: .int4, sparse: sparse)).compile(
                checkpoint: "\(TestModels.golden)/odd-gpt2", output: path)
            let tokens = try TestModels.tokens("odd-gpt2")
            let expected = try await Run().engine(try Model.open(path)).logitBits(tokens)
            for level in InstructionSet.available.map(\.name) {
                let engine = try Run(instructionSet: level).engine(try Model.open(path, placement: placement))
                #expect(firstDifference(try await engine.logitBits(tokens), expected) == nil, "\(level)")
            }
        }
    }

    /// A copy does not care what becomes of the file.
    @Test func copyOutlivesItsFile() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path("model.lathe")
        _ = try Compiler(weights: .int8).compile(checkpoint: "\(TestModels.golden)/tiny-gpt2", output: path)
        let model = try Model.open(path, placement: .copy)
        let expected = try await Run().engine(model).logitBits([1, 2, 3])
        // In place, as no lathe command would: the file is shorter now.
        try folder.truncate("model.lathe", to: 100)
        #expect(try await Run().engine(model).logitBits([1, 2, 3]) == expected)
    }
}
