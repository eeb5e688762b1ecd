/// A `.lathe` file as a model: its container's metadata read, every tensor that its graph names found and checked.
///
/// The one place that knows which metadata and tensors a model is made of, for the half that writes it and the half that
/// reads it.
package final class ModelFile: Sendable {
    package let container: LatheFile
    package let outline: ModelOutline
    /// How the weights were made: the format, and the checkpoint they came from.
    package let recipe: JSON
    package let tokenizer: TokenizerTables?

    package var path: String { container.path }
    package var configuration: ModelConfiguration { outline.configuration }
    package var graph: Graph { outline.graph }

    package static func open(
        path: String, access: SafetensorsFile.Access = .mapped, verify: Bool
    ) throws(LatheError) -> ModelFile {
        try ModelFile(try LatheFile.open(path: path, access: access, verify: verify), scansWeights: verify)
    }

    package static func open(mapped file: MappedFile, verify: Bool) throws(LatheError) -> ModelFile {
        try ModelFile(try LatheFile.open(mapped: file, verify: verify), scansWeights: verify)
    }

    private init(_ container: LatheFile, scansWeights: Bool) throws(LatheError) {
        self.container = container
        outline = try Self.outline(of: container)
        recipe = try Self.json(.recipe, of: container)
        if container.metadata[Key.tokenizer.rawValue] != nil {
            let settings = try Self.json(.tokenizer, of: container).object(
                at: "\(container.path), \(Key.tokenizer.rawValue)")
            var tables = TokenizerTables(tensors: [], settings: [:])
            for member in settings.members {
                tables.settings[member.key] = try member.value.string(
                    at: "\(container.path), tokenizer, `\(member.key)`")
            }
            for tensor in container.tensors where TokenizerTables.elementType(of: tensor.name) != nil {
                tables.tensors.append((tensor.name, try container.bytes(of: tensor.name)))
            }
            tokenizer = tables
        } else {
            tokenizer = nil
        }
        try scan(weightsToo: scansWeights)
    }

    /// What the header says: sizes and shapes are checked, no tensor is touched.
    package static func outline(of container: LatheFile) throws(LatheError) -> ModelOutline {
        let source = container.path
        let configuration = try ModelConfiguration(
            json: try json(.configuration, of: container), source: "\(source), configuration")
        let graph = try Graph(json: try json(.graph, of: container), source: source)
        try graph.validate(against: configuration, source: source)
        var expected: Set<String> = []
        for parameter in graph.parameters {
            for part in parameter.parts {
                try check(part, in: container)
                expected.insert(part.name)
            }
        }
        var tokenizerByteCount = 0
        if container.metadata[Key.tokenizer.rawValue] != nil {
            for tensor in container.tensors where TokenizerTables.elementType(of: tensor.name) != nil {
                tokenizerByteCount += tensor.byteCount
                expected.insert(tensor.name)
            }
        }
        if let extra = container.tensors.first(where: { !expected.contains($0.name) }) {
            throw LatheError(.corrupt, "\(source): the tensor `\(extra.name)` is no part of its graph.")
        }
        return ModelOutline(
            configuration: configuration, graph: graph, tokenizerByteCount: tokenizerByteCount, source: source)
    }

    private static func json(_ key: Key, of container: LatheFile) throws(LatheError) -> JSON {
        guard let text = container.metadata[key.rawValue] else {
            throw LatheError(
                .corrupt,
                "\(container.path): `\(key.rawValue)` is missing from its metadata; convert the checkpoint again.")
        }
        return try JSON.parse(ByteView(copying: Array(text.utf8)), source: "\(container.path), \(key.rawValue)")
    }

    /// The bytes of a part that `init` has found and checked.
    package func bytes(of part: WeightEncoding.Part) throws(LatheError) -> ByteView {
        try container.bytes(of: part.name)
    }

    /// Gives the memory back that the kernel holds for everything up to the end of a part. It can still be read.
    package func dropPages(upTo part: WeightEncoding.Part) { container.dropPages(upTo: part.name) }

    private static func check(_ part: WeightEncoding.Part, in container: LatheFile) throws(LatheError) {
        guard let tensor = container[part.name] else {
            throw LatheError(.corrupt, "\(container.path): the tensor `\(part.name)` is missing.")
        }
        guard tensor.dtype == part.dtype && tensor.shape == part.shape else {
            throw LatheError(
                .corrupt,
                """
                \(container.path): `\(part.name)` is \(tensor.dtype.rawValue) \(tensor.shape); its graph needs \
                \(part.dtype.rawValue) \(part.shape).
                """)
        }
    }

    /// A scale that is zero or no number, or a weight that is no number, would silence or poison outputs; found now, it
    /// names its tensor. What tells kernels where to read is checked always; only the large float32 matrices may be left
    /// out.
    private func scan(weightsToo: Bool) throws(LatheError) {
        for parameter in graph.parameters {
            switch parameter.encoding {
            case .quantized(let panels): try QuantizedScan(parameter, panels, in: self).run()
            case .rows: try requireFinite(parameter)
            case .panels: if weightsToo { try requireFinite(parameter) }
            }
        }
    }

    private func requireFinite(_ parameter: Parameter) throws(LatheError) {
        if let bad = try bytes(of: parameter.parts[0]).firstNotFinite {
            throw LatheError(.corrupt, "\(path): `\(parameter.name)` holds a value that is not finite at \(bad).")
        }
    }
}

// MARK: - Writing

extension ModelFile {
    private enum Key: String {
        case configuration = "lathe.configuration"
        case graph = "lathe.graph"
        case recipe = "lathe.recipe"
        case tokenizer = "lathe.tokenizer"
    }

    package static func metadata(
        configuration: ModelConfiguration, graph: Graph, recipe: JSON, tokenizer: TokenizerTables?
    ) -> [(String, String)] {
        var metadata: [(String, String)] = [
            (Key.configuration.rawValue, configuration.json.serialized()),
            (Key.graph.rawValue, graph.json.serialized()),
            (Key.recipe.rawValue, recipe.serialized()),
        ]
        if let tokenizer {
            let settings = tokenizer.settings.sorted { $0.key < $1.key }.map { ($0.key, JSON.string($0.value)) }
            metadata.append((Key.tokenizer.rawValue, JSON.object(JSONObject(settings)).serialized()))
        }
        return metadata
    }

    /// Every tensor of the file, in the order in which it is written: the graph's parameters, then the tokenizer.
    package static func tensorDeclarations(graph: Graph, tokenizer: TokenizerTables?) -> [TensorDeclaration] {
        var tensors = graph.parameters.flatMap(\.parts).map {
            TensorDeclaration(name: $0.name, dtype: $0.dtype, shape: $0.shape)
        }
        for tensor in tokenizer?.tensors ?? [] {
            let isBytes = TokenizerTables.elementType(of: tensor.name) == .u8
            tensors.append(
                TensorDeclaration(
                    name: tensor.name, dtype: isBytes ? .u8 : .u32,
                    shape: [isBytes ? tensor.bytes.count : tensor.bytes.count / 4]))
        }
        return tensors
    }
}
