import LatheCompiler
public import LatheFormat

/// What a file or folder holds, without reading a weight.
public struct Inspection {
    public enum Kind: String, Sendable {
        case lathe, safetensors, checkpoint
    }

    public struct Tensor: Sendable {
        public let name: String
        public let dtype: String
        public let shape: [Int]
        public let bytes: Int
    }

    /// A parameter of a `.lathe` file, whatever tensors hold it.
    public struct Weight: Sendable {
        public let name: String
        /// The true shape.
        public let shape: [Int]
        /// As an override would ask for it: `int4:g64:sparse`.
        public let format: String
        /// Of all its tensors.
        public let bytes: Int
        /// What the recipe says of matrices: the fraction of zeros, and ‖w − ŵ‖ / ‖w‖.
        public let sparsity: Double?
        public let relativeError: Double?
    }

    public let kind: Kind
    /// The model's configuration: of a checkpoint, config.json as it stands. Null for a safetensors file.
    package let configuration: JSON
    /// How a `.lathe` file was made, else null.
    package let recipe: JSON
    /// Of a `.lathe` file, what is computed, else null.
    package let graph: JSON
    /// As they lie in the file, padded.
    public let tensors: [Tensor]
    /// Of a `.lathe` file, else empty.
    public let weights: [Weight]
    public let fileBytes: Int
    /// Of a `.lathe` file: how often each operation stands in the entry point `decode`.
    public let operations: [(count: Int, name: String)]

    public init(path: String) throws(LatheError) {
        if Files.isDirectory(path) {
            let checkpoint = try Checkpoint(path: path)
            kind = .checkpoint
            configuration = .object(checkpoint.configuration)
            (recipe, graph) = (.null, .null)
            tensors = checkpoint.weights.files.flatMap { $0.tensors.map(Tensor.init) }
            fileBytes = checkpoint.weights.files.reduce(0) { $0 + $1.fileByteCount }
            (operations, weights) = ([], [])
            return
        }
        let file = try SafetensorsFile.open(path: path)
        fileBytes = file.fileByteCount
        tensors = file.tensors.map(Tensor.init)
        guard file.metadata["lathe.version"] != nil else {
            kind = .safetensors
            (configuration, recipe, graph) = (.null, .null, .null)
            (operations, weights) = ([], [])
            return
        }
        let model = try ModelFile.open(path: path, verify: false)
        kind = .lathe
        configuration = model.configuration.json
        recipe = model.recipe
        graph = model.graph.json
        operations = Self.count(model.graph)
        weights = try Self.weights(of: model)
    }

    package var json: JSON {
        [
            "kind": .string(kind.rawValue), "configuration": configuration, "recipe": recipe,
            "tensors": .array(
                tensors.map {
                    [
                        "name": .string($0.name), "dtype": .string($0.dtype),
                        "shape": .array($0.shape.map(JSON.number)), "bytes": .number($0.bytes),
                    ]
                }),
            "file_bytes": .number(fileBytes),
            // The graph's parameters give the true shapes; the tensors are padded and in panels.
            "graph": graph,
        ]
    }

    private static func weights(of model: ModelFile) throws(LatheError) -> [Weight] {
        let place = "\(model.path), recipe"
        var outcomes: [String: JSONObject] = [:]
        for item in try model.recipe.object(at: place).arrayIfPresent("tensors", in: place) ?? [] {
            let item = try item.object(at: place)
            outcomes[try item.string("name", in: place)] = item
        }
        return try model.graph.parameters.map { (parameter) throws(LatheError) in
            let outcome = outcomes[parameter.name]
            var bytes = 0
            for part in parameter.parts { bytes += try model.container.tensor(part.name).byteCount }
            return Weight(
                name: parameter.name, shape: parameter.shape, format: parameter.encoding.formatName, bytes: bytes,
                sparsity: try outcome?.doubleIfPresent("sparsity", in: place),
                relativeError: try outcome?.doubleIfPresent("relative_error", in: place))
        }
    }

    private static func count(_ graph: Graph) -> [(Int, String)] {
        var counts: [(Int, String)] = []
        for operation in graph.entryPoint("decode")?.operations ?? [] {
            let name = operation.kind.name
            if let index = counts.firstIndex(where: { $0.1 == name }) {
                counts[index].0 += 1
            } else {
                counts.append((1, name))
            }
        }
        return counts
    }
}

extension Inspection.Tensor {
    fileprivate init(_ info: TensorInfo) {
        self.init(name: info.name, dtype: info.dtype.rawValue, shape: info.shape, bytes: info.byteCount)
    }
}
