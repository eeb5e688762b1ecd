import FoundationEssentials
import LatheCompiler
import LatheFormat
import Testing

/// Checkpoints in shards whose index lies.
@Suite struct ShardFaultTests {
    static let index = "model.safetensors.index.json"
    static let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]

    /// `wte.weight` is in the first shard.
    @Test(arguments: [
        "../model.safetensors", "/etc/passwd", "..", ".", "", "sub/model.safetensors", "../odd-gpt2/\(shards[0])",
    ])
    func shardsElsewhereAreRefused(shard: String) throws {
        let checkpoint = try BentCheckpoint("odd-gpt2")
        try checkpoint.change(in: Self.index, ["weight_map", "wte.weight"], to: .string(shard))
        let error = try checkpoint.failure()
        #expect(error.code == .corrupt && error.names(Self.index, "wte.weight", "same folder"), "\(error.message)")
    }

    @Test func missingShardsAreNamed() throws {
        let checkpoint = try BentCheckpoint("odd-gpt2")
        try FileManager.default.removeItem(atPath: checkpoint.file(Self.shards[1]))
        let error = try checkpoint.failure()
        #expect(error.code == .missing && error.names(Self.index, Self.shards[1]), "\(error.message)")
    }

    @Test func tensorsThatAreNotInTheirShardAreNamed() throws {
        let wrong = try BentCheckpoint("odd-gpt2")
        try wrong.change(in: Self.index, ["weight_map", "wte.weight"], to: .string(Self.shards[1]))
        #expect(try wrong.failure().names(Self.index, "wte.weight", Self.shards[1]))

        let invented = try BentCheckpoint("odd-gpt2")
        try invented.change(in: Self.index, ["weight_map", "invented"], to: .string(Self.shards[0]))
        #expect(try invented.failure().names(Self.index, "invented"))

        let omitted = try BentCheckpoint("odd-gpt2")
        try omitted.change(in: Self.index, ["weight_map", "wte.weight"], to: nil)
        #expect(try omitted.failure().names(Self.index, "wte.weight", Self.shards[0]))

        let doubled = try BentCheckpoint("odd-gpt2")
        var copied: BentCheckpoint.Tensor?
        try doubled.changeTensors(of: Self.shards[0]) { copied = $0.first { $0.name == "wte.weight" } }
        try doubled.changeTensors(of: Self.shards[1]) { $0.append(try #require(copied)) }
        #expect(try doubled.failure().names(Self.index, "wte.weight", Self.shards[1]))
    }

    @Test(arguments: [nil, 7, [], "x", ["wte.weight": 3], ["wte.weight": nil]] as [JSON?])
    func mapsThatAreNoneAreRefused(map: JSON?) throws {
        let checkpoint = try BentCheckpoint("odd-gpt2")
        try checkpoint.change(in: Self.index, ["weight_map"], to: map)
        #expect(try checkpoint.failure().names(Self.index, "weight_map"))
    }

    @Test func damagedShardsAreNamed() throws {
        let checkpoint = try BentCheckpoint("odd-gpt2")
        try checkpoint.write("not found", to: Self.shards[1])
        #expect(try checkpoint.failure().names(Self.shards[1]))
    }

    @Test func outputOverAShardIsRefused() throws {
        let checkpoint = try BentCheckpoint("odd-gpt2")
        for name in Self.shards + [Self.index, "config.json"] {
            let error = try #require(throws: LatheError.self) {
                try Compiler().compile(checkpoint: checkpoint.path, output: checkpoint.file(name))
            }
            #expect(error.names("output", name), "\(error.message)")
        }
    }
}
