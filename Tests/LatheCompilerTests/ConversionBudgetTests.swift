import FoundationEssentials
import LatheFormat
import Synchronization
import Testing

@testable import LatheCompiler

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// A checkpoint whose embedding (4099 × 256) and layers (1024 × 256) are large beside the smallest slices.
private final class Synthetic {
    private let folder =
        FileManager.default.temporaryDirectory.path() + "lathe-budget-\(UInt64.random(in: .min ... .max))"
    var path: String { "\(folder)/checkpoint" }
    func file(_ name: String) -> String { "\(folder)/\(name)" }

    /// - Parameter isSmall: where it is converted very often.
    init(isSmall: Bool = false) throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let configuration = """
            {"model_type": "gpt2", "vocab_size": \(isSmall ? 99 : 4099), "n_positions": 64,
             "n_embd": \(isSmall ? 32 : 256), "n_layer": 1, "n_head": 4,
             "bos_token_id": 0, "eos_token_id": 0}
            """
        try Data(configuration.utf8).write(to: URL(filePath: file("config.json")))
        try SyntheticCheckpoint(named: file("config.json"), isHalfPrecision: true).write(to: path)
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    func bytes(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(filePath: file(name)))) }
    /// Hidden files too.
    func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: folder).sorted() }
}

/// Memory that is planned before a conversion starts, and kept while it runs.
@Suite struct ConversionBudgetTests {
    private static let recipes: [(name: String, recipe: @Sendable () throws -> Recipe)] = [
        ("f32", { Recipe(weights: .float32) }), ("int8", { Recipe(weights: .int8) }),
        ("int4", { Recipe(weights: .int4) }),
        ("sparse", { Recipe(weights: .int4, sparse: .on, overrides: [try .init(parsing: "wte=int8:sparse")]) }),
        ("int4 embedding", { Recipe(weights: .int4, groupSize: 32, overrides: [try .init(parsing: "wte=int4:auto")]) }),
    ]

    /// The least that a budget can be: what the refusal of a smaller one says.
    private static func least(_ body: (Int) throws -> Void) throws -> Int {
        let error = try #require(throws: LatheError.self) { try body(1000) }
        #expect(error.code == .budget)
        let words = error.message.split(separator: " ")
        let index = try #require(words.firstIndex(of: "take"))
        #expect(error.message.contains("What would help") && error.message.hasSuffix("."))
        return try #require(Int(words[index + 1]))
    }

    @Test(arguments: recipes.indices)
    func theFileIsTheSameWhateverTheBudget(index: Int) throws {
        let synthetic = try Synthetic()
        var compiler = Compiler(recipe: try Self.recipes[index].recipe(), threads: 2)
        func compile(_ name: String, budget: Int?) throws -> ConversionMemory {
            compiler.memoryBudget = budget
            return try compiler.compile(checkpoint: synthetic.path, output: synthetic.file(name)).memory
        }
        let free = try compile("free", budget: nil)
        let least = try Self.least { _ = try compile("refused", budget: $0) }
        #expect(!Files.exists(synthetic.file("refused")))
        #expect(throws: LatheError.self) { try compile("refused", budget: least - 1) }
        #expect(least <= free.planned)
        for (name, budget) in [("least", least), ("more", least + 300_000), ("much", 700_000_000)] {
            let memory = try compile(name, budget: budget)
            #expect(memory.planned <= budget && memory.budget == budget)
            #expect(memory.windowsTaken <= memory.windows)
            // An honest plan: little of it is for nothing.
            #expect(Double(memory.windowsTaken) >= 0.9 * Double(memory.windows), "\(memory)")
            #expect(try synthetic.bytes(name) == synthetic.bytes("free"), "\(name)")
        }
    }

    @Test(arguments: ["layer", "row", "global", "2:4", "balanced"])
    func thePrunedFolderIsTheSameWhateverTheBudget(kind: String) throws {
        let synthetic = try Synthetic()
        var options = PruningOptions(sparsity: 0.6, includesEmbeddings: true, balancesPairs: kind == "balanced")
        if let scope = PruningOptions.Scope(rawValue: kind) { options.scope = scope }
        if kind == "2:4" { options = PruningOptions(pattern: try .init(named: kind), includesEmbeddings: true) }
        var pruner = Pruner(options)
        func prune(_ name: String, budget: Int?) throws -> PruningReport {
            pruner.memoryBudget = budget
            return try pruner.prune(checkpoint: synthetic.path, output: synthetic.file(name))
        }
        let free = try prune("free", budget: nil)
        let least = try Self.least { _ = try prune("refused", budget: $0) }
        #expect(!Files.exists(synthetic.file("refused")))
        for (name, budget) in [("least", least), ("more", least + 200_000), ("much", 700_000_000)] {
            let report = try prune(name, budget: budget)
            #expect(report.memory.planned <= budget && report.memory.windowsTaken <= report.memory.windows)
            #expect(Double(report.memory.windowsTaken) >= 0.8 * Double(report.memory.windows), "\(report.memory)")
            #expect(
                try synthetic.bytes("\(name)/model.safetensors") == synthetic.bytes("free/model.safetensors"), "\(name)"
            )
            #expect(report.tensors.map(\.zeros) == free.tensors.map(\.zeros))
            #expect(report.tensors.map(\.balanceLoss) == free.tensors.map(\.balanceLoss))
        }
    }

    @Test func calibratedStepsThatDoNotFitAreRefusedUpFront() throws {
        let synthetic = try Synthetic()
        var compiler = Compiler(recipe: Recipe(weights: .int4))
        compiler.recipe.method = .gptq
        compiler.calibrationWindows = [[Int32](repeating: 1, count: 64)]
        compiler.memoryBudget = 80_000_000
        let error = try #require(throws: LatheError.self) {
            try compiler.compile(checkpoint: synthetic.path, output: synthetic.file("out"))
        }
        #expect(error.code == .budget && error.message.contains("calibrated steps"), "\(error.message)")
        var pruner = Pruner(PruningOptions(sparsity: 0.5, criterion: .wanda))
        pruner.memoryBudget = 80_000_000
        let refused = try #require(throws: LatheError.self) {
            try pruner.prune(
                checkpoint: synthetic.path, output: synthetic.file("out"), calibration: compiler.calibrationWindows)
        }
        #expect(refused.code == .budget && refused.message.contains("--criterion magnitude"), "\(refused.message)")
        #expect(!Files.exists(synthetic.file("out")))
    }

    // MARK: Faults

    /// The smallest budget cuts every kind of matrix, and encodes sparse ones twice.
    @Test func theSmallestBudgetCutsAllMatrices() throws {
        let synthetic = try Synthetic()
        let checkpoint = try Checkpoint(path: synthetic.path)
        let definition = try Architectures.define(checkpoint)
        for format in ["int8:dense", "int4:sparse"] {
            for source in definition.weights where source.role == .matrix && source.shape[0] > 300 {
                let problem = MatrixSchedule.Problem(source: source, format: try .init(parsing: format), threads: 1)
                let least = problem.schedule(for: 0)
                #expect(least.step < source.shape[0] && least.byteCount < problem.whole.byteCount, "\(source.name)")
                #expect(least.encodesTwice == (format == "int4:sparse"), "\(source.name)")
                #expect(problem.schedule(for: .max).step >= min(source.shape[0], 4 << 20 / 256))
            }
        }
    }

    /// FAULTS 20: each request to the ledger fails in turn; then nothing is left, neither in the account nor in the folder.
    @Test(arguments: ["quantize", "prune"])
    func eachAllocationFailsInTurn(command: String) throws {
        let synthetic = try Synthetic(isSmall: true)
        let old = Array("the old file".utf8)
        try Data(old).write(to: URL(filePath: synthetic.file("out.lathe")))
        let names = try synthetic.names()
        var met = 0
        for request in 0... {
            let wasMet = Mutex(false)
            let ledger = Mutex<MemoryLedger?>(nil)
            let faults = Compiler.Faults(
                allocation: { number in
                    guard number == request else { return false }
                    wasMet.withLock { $0 = true }
                    return true
                }, ledger: { account in ledger.withLock { $0 = account } })
            let error = error { () throws(LatheError) in try Self.run(command, synthetic, faults) }
            #expect(ledger.withLock { $0?.current } == 0)
            guard wasMet.withLock({ $0 }) else {
                #expect(error == nil)
                break
            }
            met += 1
            #expect(error?.code == .budget && error?.message.hasSuffix(".") == true, "\(String(describing: error))")
            #expect(try synthetic.names() == names)
            #expect(try synthetic.bytes("out.lathe") == old)
        }
        #expect(met > 30)
    }

    /// FAULTS 17: each step with the file system fails in turn.
    @Test(arguments: ["quantize", "prune"], [ENOSPC, EIO])
    func eachStepOfWritingFailsInTurn(command: String, code: Int32) throws {
        let synthetic = try Synthetic(isSmall: true)
        let old = Array("the old file".utf8)
        try Data(old).write(to: URL(filePath: synthetic.file("out.lathe")))
        let names = try synthetic.names()
        var met: [AtomicFile.Operation] = []
        for count in 0... {
            // The count runs over all files, where a step counts those of one.
            let state = Mutex((seen: 0, hit: AtomicFile.Operation?.none))
            let faults = Compiler.Faults(file: { operation, _ in
                state.withLock { state in
                    defer { state.seen += 1 }
                    guard state.seen == count else { return nil }
                    state.hit = operation
                    return .error(code)
                }
            })
            let error = error { () throws(LatheError) in try Self.run(command, synthetic, faults) }
            guard let hit = state.withLock({ $0.hit }) else {
                #expect(error == nil)
                break
            }
            met.append(hit)
            #expect(error?.code == .io && error?.message.contains("out") == true, "\(String(describing: error))")
            // The file was in its place when its folder could not be synced.
            if hit == .syncFolder, command == "prune" {
                #expect(Files.exists(synthetic.file("out/model.safetensors")))
                Files.removeFolder(synthetic.file("out"))
            } else if hit == .syncFolder {
                #expect(try synthetic.bytes("out.lathe") != old)
                try Data(old).write(to: URL(filePath: synthetic.file("out.lathe")))
            }
            #expect(try synthetic.names() == names)
            #expect(try synthetic.bytes("out.lathe") == old)
        }
        #expect(Set(met).isSuperset(of: [.create, .write, .sync, .publish, .syncFolder]))
    }

    private static func run(_ command: String, _ synthetic: Synthetic, _ faults: Compiler.Faults) throws(LatheError) {
        if command == "quantize" {
            var compiler = Compiler(recipe: Recipe(weights: .int4, sparse: .on))
            compiler.memoryBudget = 60_000_000
            compiler.faults = faults
            _ = try compiler.compile(checkpoint: synthetic.path, output: synthetic.file("out.lathe"))
        } else {
            var pruner = Pruner(PruningOptions(sparsity: 0.5, scope: .global))
            pruner.memoryBudget = 60_000_000
            pruner.faults = faults
            _ = try pruner.prune(checkpoint: synthetic.path, output: synthetic.file("out"))
        }
    }

    /// FAULTS 10: the checkpoint becomes shorter while it is converted.
    @Test(arguments: ["quantize", "prune"], [0.3, 0.95])
    func aCheckpointTruncatedMeanwhileIsAnError(command: String, share: Double) throws {
        let synthetic = try Synthetic()
        let names = try synthetic.names()
        let weights = "\(synthetic.path)/model.safetensors"
        let size = Int(try InputFile.open(path: weights).byteCount)
        func shorten(_ progress: Compiler.Progress) {
            guard progress.completedBytes > 0 else { return }
            _ = truncate(weights, off_t(Double(size) * share))
        }
        let error = try #require(throws: LatheError.self) {
            if command == "quantize" {
                _ = try Compiler(weights: .int8).compile(
                    checkpoint: synthetic.path, output: synthetic.file("out.lathe"), progress: shorten)
            } else {
                _ = try Pruner(PruningOptions(sparsity: 0.5)).prune(
                    checkpoint: synthetic.path, output: synthetic.file("out"), progress: shorten)
            }
        }
        #expect(error.code == .io && error.message.contains("model.safetensors"), "\(error.message)")
        #expect(try synthetic.names() == names)
    }
}

private func error(of body: () throws(LatheError) -> Void) -> LatheError? {
    do { try body() } catch { return error }
    return nil
}
