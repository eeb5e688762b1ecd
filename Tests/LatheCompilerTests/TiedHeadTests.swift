import LatheCompiler
import LatheFormat
import Testing

/// A tied embedding under every name and in every company in which it is found.
@Suite struct TiedHeadTests {
    private static let table = "transformer.wte.weight"
    private static let head = "lm_head.weight"

    private func parameters(_ checkpoint: BentCheckpoint) throws -> (names: [String], warnings: [String]) {
        let (report, model) = try checkpoint.convert()
        return (model.graph.parameters.map(\.name).filter { ["wte.weight", Self.head].contains($0) }, report.warnings)
    }

    @Test func aCopyOfTheEmbeddingIsStoredOnce() throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.changeTensors { tensors in
            var copy = try #require(tensors.first { $0.name == Self.table })
            copy.name = Self.head
            tensors.append(copy)
        }
        let (names, warnings) = try parameters(checkpoint)
        #expect(names == ["wte.weight"] && warnings.isEmpty)
    }

    @Test func theHeadsNameAloneStandsForBoth() throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.changeTensor(Self.table) { $0.name = Self.head }
        let (names, warnings) = try parameters(checkpoint)
        #expect(names == ["wte.weight"] && warnings.isEmpty)
    }

    /// transformers 5 keeps both; tying them would change every logit without a word.
    @Test func aDifferentHeadIsKept() throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.changeTensors { tensors in
            var other = try #require(tensors.first { $0.name == Self.table })
            other.name = Self.head
            other.bytes.reverse()
            // Keep the numbers finite: the exponents of the reversed bytes are anything.
            for index in stride(from: 3, to: other.bytes.count, by: 4) { other.bytes[index] = 0x3C }
            tensors.append(other)
        }
        let (names, warnings) = try parameters(checkpoint)
        #expect(names == ["wte.weight", Self.head])
        #expect(warnings.count == 1 && warnings[0].contains("tie_word_embeddings"), "\(warnings)")
    }
}

/// What config.json leaves out or says under another name, as transformers reads it.
@Suite struct ConfigurationNamesTests {
    @Test func theAttributeMapsNamesAreRead() throws {
        let checkpoint = try BentCheckpoint()
        let names = [
            ("n_embd", "hidden_size"), ("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads"),
            ("n_positions", "max_position_embeddings"),
        ]
        let old = try JSON.parse(path: checkpoint.file("config.json")).object(at: "config.json")
        for (own, other) in names {
            try checkpoint.change([other], to: old.value(own, in: "config.json"))
            try checkpoint.change([own], to: own == "n_head" ? .null : nil)
        }
        let (_, model) = try checkpoint.convert()
        #expect(model.configuration.width == 32 && model.configuration.layerCount == 2)
        #expect(model.configuration.headCount == 2 && model.configuration.contextLength == 64)
    }
}
