/// What a model is and how large each of its parts is, from a header alone: enough for a memory plan, before a weight is
/// touched.
package struct ModelOutline: Sendable {
    package let configuration: ModelConfiguration
    /// Validated.
    package var graph: Graph
    /// Bytes of the tokenizer's tables; 0 without a tokenizer.
    package let tokenizerByteCount: Int
    /// For messages.
    package let source: String

    package init(configuration: ModelConfiguration, graph: Graph, tokenizerByteCount: Int, source: String) {
        self.configuration = configuration
        self.graph = graph
        self.tokenizerByteCount = tokenizerByteCount
        self.source = source
    }

    /// Reads the header of the `.lathe` file at `path`.
    package static func read(path: String) throws(LatheError) -> ModelOutline {
        try ModelFile.outline(of: try LatheFile.open(path: path, verify: false))
    }

    /// Whether any weight is encoded in fewer bits than float32.
    package var isQuantized: Bool { graph.parameters.contains { $0.encoding.isQuantized } }

    /// Bytes of all parameters as the file stores them.
    package var weightByteCount: Int { graph.parameters.reduce(0) { $0 + $1.byteCount } }
}

extension WeightEncoding.Part {
    /// In the file. A validated parameter's sizes fit Int.
    package var byteCount: Int { shape.reduce(dtype.bitWidth / 8, *) }
}

extension Parameter {
    /// Of all tensors that hold the parameter.
    package var byteCount: Int { parts.reduce(0) { $0 + $1.byteCount } }
}
