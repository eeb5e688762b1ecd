import FoundationEssentials
import LatheFormat
import Testing

@testable import LatheCompiler

/// The folder that pruning writes, and what stays when it cannot.
@Suite struct PrunedCheckpointTests {
    @Test(arguments: ["tiny-gpt2", "odd-gpt2", "gelu-gpt2"])
    func filesTensorsAndTypesAreTheSame(name: String) throws {
        let folder = try PrunedFolder(name)
        try folder.original.write("{}", to: "tokenizer_config.json")
        try folder.original.write("not copied", to: "pytorch_model.bin")
        try folder.original.write("not copied", to: ".hidden")
        let report = try folder.prune(PruningOptions(sparsity: 0.5))
        let before = try Checkpoint(path: folder.original.path)
        let after = try Checkpoint(path: folder.output)
        for (old, new) in zip(before.weights.files, after.weights.files) {
            #expect(old.tensors.map(\.name) == new.tensors.map(\.name))
            #expect(old.tensors.map(\.dtype) == new.tensors.map(\.dtype))
            #expect(old.tensors.map(\.shape) == new.tensors.map(\.shape))
            #expect(new.metadata["format"] == "pt")
            let pruning = try JSON.parse(Array(#require(new.metadata["lathe.pruning"]).utf8), source: "metadata")
                .object(at: "metadata")
            #expect(pruning["criterion"] == "magnitude" && pruning["scope"] == "layer")
            #expect(pruning["pattern"] == "unstructured" && pruning["sparsity"] == 0.5)
            #expect(try pruning.double("achieved", in: "metadata") == report.sparsity)
            let tensors = try pruning.object("tensors", in: "metadata")
            #expect(tensors.members.map(\.key) == report.tensors.map(\.name))
            #expect(
                tensors["h.0.mlp.c_fc.weight"]
                    == ["zeros": .number(report.tensors[2].zeros), "count": .number(report.tensors[2].count)])
        }
        #expect(
            try Files.names(in: folder.output)
                == (try Files.names(in: folder.original.path)).filter {
                    $0 != "pytorch_model.bin" && $0 != ".hidden" && $0 != "expected"
                })
        #expect(try folder.names() == ["out"])
        #expect(try after.pruning?.object(at: "pruning")["sparsity"] == 0.5)
        #expect(try before.pruning == nil)
        #expect(try folder.bytes("tokenizer_config.json") == Array("{}".utf8))
        _ = try Compiler(weights: .int8).compile(checkpoint: folder.output, output: folder.output + ".lathe")
    }

    @Test func theSameOptionsGiveTheSameBytes() throws {
        let folder = try PrunedFolder("odd-gpt2")
        for name in ["out", "again"] {
            try folder.prune(PruningOptions(sparsity: 0.37, scope: .global, balancesPairs: true), as: name)
        }
        for name in try Files.names(in: folder.output) {
            #expect(try folder.bytes(name) == (try folder.bytes(name, of: "again")), "\(name)")
        }
        // A second pruning of the same sparsity finds its zeros there.
        let names = try Files.names(in: folder.output).filter { $0.hasSuffix(".safetensors") }
        #expect(names.count == 2)
    }

    /// A head that repeats a tied embedding is pruned with it, or it would no longer be tied.
    @Test func aCopyOfTheEmbeddingStaysACopy() throws {
        let folder = try PrunedFolder()
        try folder.original.changeTensors { tensors in
            var copy = try #require(tensors.first { $0.name == "transformer.wte.weight" })
            copy.name = "lm_head.weight"
            tensors.append(copy)
        }
        try folder.prune(PruningOptions(sparsity: 0.5, includesEmbeddings: true))
        let weights = try Checkpoint(path: folder.output).weights
        let (head, table) = try (#require(weights["lm_head.weight"]), #require(weights["transformer.wte.weight"]))
        let bytes = try head.file.bytes(of: "lm_head.weight")
        #expect(bytes.hasSameBytes(as: try table.file.bytes(of: "transformer.wte.weight")))
        #expect((0..<bytes.count / 4).count { bytes.load($0, as: Float.self) == 0 } == bytes.count / 8)
    }

    @Test(arguments: [1, 1.5, -0.1, .nan, .infinity])
    func aSparsityOutsideIsRefused(sparsity: Double) throws {
        let error = try PrunedFolder().failure(PruningOptions(sparsity: sparsity))
        #expect(error.code == .invalidRequest && error.names("sparsity", "\(sparsity)", "0.5"))
    }

    @Test func contradictingOptionsAreRefused() throws {
        let folder = try PrunedFolder()
        #expect(try folder.failure(PruningOptions()).names("sparsity"))
        let group = PruningOptions.Pattern.group(kept: 2, size: 4)
        #expect(try folder.failure(PruningOptions(sparsity: 0.6, pattern: group)).names("2:4", "0.6", "0.5"))
        let eight = PruningOptions.Pattern.group(kept: 4, size: 8)
        #expect(try folder.failure(PruningOptions(pattern: eight, balancesPairs: true)).names("4:8", "balance"))
        #expect(try folder.failure(PruningOptions(sparsity: 0.5, criterion: .wanda)).names("calibration"))
        #expect(
            try folder.failure(PruningOptions(sparsity: 0.5, scope: .global, criterion: .wanda)).names("global", "row"))
        #expect(try folder.failure(PruningOptions(sparsity: 0.5, excluded: ["c_atn"])).names("c_atn", "c_attn"))
        #expect(try folder.failure(PruningOptions(sparsity: 0.5, excluded: [""])).names("empty"))
        #expect(try folder.failure(PruningOptions(sparsity: 0.5, excluded: ["*"])).names("nothing is left"))
    }

    @Test(arguments: ["2:3", "4:2", "0:4", "4:4", "2:64", "2:", ":", "a:b", "-1:4", "2:4:8", "dense", "", "+2:4"])
    func anImpossiblePatternIsRefused(text: String) throws {
        let error = try #require(throws: LatheError.self) { try PruningOptions.Pattern(named: text) }
        #expect(error.names(quoted(text)) && error.message.hasSuffix("."))
    }

    @Test func aGroupThatDoesNotDivideNamesTheTensor() throws {
        // gelu-gpt2 is 24 wide.
        let folder = try PrunedFolder("gelu-gpt2")
        let width = try Checkpoint(path: folder.original.path).configuration.int("n_embd", in: "config.json")
        try #require(width % 32 != 0)
        let error = try folder.failure(PruningOptions(pattern: .group(kept: 16, size: 32)))
        #expect(error.names("16:32", "h.0.attn.c_attn.weight", "\(width)"))
    }

    @Test(arguments: ["transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.bias", "transformer.wte.weight"])
    func aWeightThatIsNotFiniteIsRefused(name: String) throws {
        for bits: [UInt8] in [[0, 0, 0xC0, 0x7F], [0, 0, 0x80, 0xFF]] {
            let folder = try PrunedFolder()
            try folder.original.changeTensor(name) { $0.bytes.replaceSubrange(12..<16, with: bits) }
            let error = try folder.failure(PruningOptions(sparsity: 0.5))
            #expect(error.code == .notFinite && error.names(name, "element 3"), "\(error.message)")
        }
    }

    @Test func nobodysFilesAreReplaced() throws {
        let folder = try PrunedFolder()
        let manager = FileManager.default
        let options = PruningOptions(sparsity: 0.5)
        try manager.createDirectory(atPath: folder.output, withIntermediateDirectories: true)
        try folder.prune(options)
        #expect(try folder.failure(options).names(folder.output, "not empty"))
        for inside in [folder.original.path, folder.original.path + "/", folder.original.path + "/deeper"] {
            let error = try #require(throws: LatheError.self) {
                try Pruner(options).prune(checkpoint: folder.original.path, output: inside)
            }
            #expect(error.names("input"), "\(error.message)")
        }
        #expect(!manager.fileExists(atPath: folder.original.path + "/deeper"))
        let file = folder.output + "/config.json"
        let link = folder.output + "-link"
        try manager.removeItem(atPath: folder.output + "/model.safetensors")
        try manager.createSymbolicLink(atPath: link, withDestinationPath: folder.output)
        for (output, word) in [(file, "something else"), (link, "not empty"), ("..", ".."), ("", "empty path")] {
            let error = try #require(throws: LatheError.self) {
                try Pruner(options).prune(checkpoint: folder.original.path, output: output)
            }
            #expect(error.names(word), "\(error.message)")
        }
    }
}
