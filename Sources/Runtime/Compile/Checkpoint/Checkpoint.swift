package import LatheFormat

/// A Hugging Face checkpoint folder: its configuration and its weights, not yet understood as any architecture.
package struct Checkpoint {
    package let path: String
    /// `config.json`.
    package let configuration: JSONObject
    /// `generation_config.json`, if there is one.
    package let generationConfiguration: JSONObject?
    package let weights: CheckpointWeights

    package var configurationPath: String { "\(path)/config.json" }

    /// A checkpoint whose parts are at hand already.
    init(path: String, configuration: JSONObject, generationConfiguration: JSONObject?, weights: CheckpointWeights) {
        self.path = path
        self.configuration = configuration
        self.generationConfiguration = generationConfiguration
        self.weights = weights
    }

    /// Opens the folder at `path`; headers are read, weights are not.
    package init(path: String, access: SafetensorsFile.Access = .mapped) throws(LatheError) {
        self.path = path
        guard Files.isDirectory(path) else {
            throw LatheError(
                .missing,
                "\(path) is not a folder. A checkpoint is a folder with config.json and model.safetensors in it.")
        }
        configuration = try Self.readJSON("\(path)/config.json").object(at: "\(path)/config.json")
        let generation = "\(path)/generation_config.json"
        generationConfiguration =
            Files.exists(generation) ? try Self.readJSON(generation).object(at: generation) : nil
        weights = try CheckpointWeights(folder: path, access: access)
    }

    package static func readJSON(_ path: String) throws(LatheError) -> JSON {
        try JSON.parse(path: path)
    }

    /// Every file that a conversion reads; some may not exist.
    package var inputPaths: [String] {
        let names = [
            "config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json", "vocab.json",
            "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        ]
        return weights.files.map(\.path) + names.map { "\(path)/\($0)" }
    }

    /// Token ids under `key`, from generation_config.json first, as Hugging Face generates by it; an integer, a list or
    /// null.
    package func tokenIDs(_ key: String) throws(LatheError) -> [Int] {
        let places = [
            (generationConfiguration, "\(path)/generation_config.json"), (configuration, configurationPath),
        ]
        for (object, source) in places {
            switch object?[key] {
            case nil, .null: continue
            case .array(let items):
                var ids: [Int] = []
                for item in items { ids.append(try item.int(at: "\(source), \(key)")) }
                return ids
            case .some(let item): return [try item.int(at: "\(source), \(key)")]
            }
        }
        return []
    }
}
