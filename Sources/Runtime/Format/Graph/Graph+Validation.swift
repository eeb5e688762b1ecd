extension Graph {
    /// Checks everything that running the graph relies on, so that the engine may trust it: every edge leads to a value
    /// defined before, every value is defined once, every shape follows, every parameter is there, with the shape and
    /// encoding that its operation needs.
    ///
    /// - Parameter source: the file that the graph came from, for messages.
    package func validate(against configuration: ModelConfiguration, source: String) throws(LatheError) {
        var validator = GraphValidator(graph: self, configuration: configuration, source: source)
        try validator.run()
    }
}

private struct GraphValidator {
    let graph: Graph
    let configuration: ModelConfiguration
    let source: String
    private var parameters: [String: Parameter] = [:]
    private var entryPoint = ""
    private var operationIndex = 0

    // Bounds far above any model of the family: they keep sums and products of sizes inside Int.
    private static let maximumDimension = 1 << 24
    private static let maximumOperations = 100_000
    /// int32 accumulators hold 255·127 times this many products (docs/ARITHMETIC.md).
    private static let maximumDepth = 32_768

    init(graph: Graph, configuration: ModelConfiguration, source: String) {
        self.graph = graph
        self.configuration = configuration
        self.source = source
    }

    private func fail(_ what: String) -> LatheError {
        let place = entryPoint.isEmpty ? "graph" : "graph, `\(entryPoint)`, operation \(operationIndex)"
        return LatheError(.corrupt, "\(source): \(place): \(what)")
    }

    mutating func run() throws(LatheError) {
        try checkParameters()
        guard !graph.entryPoints.isEmpty else { throw fail("it has no entry point.") }
        var names: Set<String> = []
        for entry in graph.entryPoints {
            guard names.insert(entry.name).inserted else { throw fail("the entry point `\(entry.name)` stands twice.") }
            try check(entry)
        }
        entryPoint = ""
        guard graph.entryPoint("decode") != nil else { throw fail("it has no entry point `decode`.") }
    }

    private mutating func checkParameters() throws(LatheError) {
        for parameter in graph.parameters {
            guard parameters.updateValue(parameter, forKey: parameter.name) == nil else {
                throw fail("the parameter `\(parameter.name)` stands twice.")
            }
            guard (1...2).contains(parameter.shape.count),
                parameter.shape.allSatisfy({ (1...Self.maximumDimension).contains($0) })
            else { throw fail("the parameter `\(parameter.name)` has the shape \(parameter.shape).") }
            if parameter.encoding != .rows && parameter.shape.count != 2 {
                throw fail("the vector `\(parameter.name)` is encoded as `\(parameter.encoding.name)`.")
            }
            if let panels = parameter.encoding.quantized { try check(panels, of: parameter) }
        }
        for value in graph.values {
            if let width = value.width, !(1...Self.maximumDimension).contains(width) {
                throw fail("a value has the width \(width).")
            }
        }
    }

    private func check(_ panels: QuantizedPanels, of parameter: Parameter) throws(LatheError) {
        guard parameter.depth <= Self.maximumDepth else {
            throw fail(
                "the depth \(parameter.depth) of `\(parameter.name)` is more than \(Self.maximumDepth), "
                    + "the most that int8 products add up to in 32 bits.")
        }
        if let size = panels.groupSize, !QuantizedPanels.groupSizes.contains(size) {
            throw fail("`\(parameter.name)` has groups of \(size); they can be \(QuantizedPanels.groupSizes).")
        }
        // Panels start at 32-bit offsets.
        if let count = panels.packedByteCount, count < 64 || count % 64 != 0 || count > Int(UInt32.max) {
            throw fail("`\(parameter.name)` has \(count) packed bytes; they must be a multiple of 64 below 2^32.")
        }
    }

    private mutating func check(_ entry: EntryPoint) throws(LatheError) {
        entryPoint = entry.name
        operationIndex = 0
        guard entry.operations.count <= Self.maximumOperations else { throw fail("it has too many operations.") }
        guard entry.inputs.count == 1, let ids = entry.inputs.first, graph.values.indices.contains(ids),
            graph.values[ids] == .tokenIDs
        else { throw fail("its one input must be the token ids.") }

        var defined = Set(entry.inputs)
        var cachedLayers: Set<Int> = []
        for (index, operation) in entry.operations.enumerated() {
            operationIndex = index
            for input in operation.inputs where !defined.contains(input) {
                throw fail("it uses the value \(input) before it is defined.")
            }
            guard graph.values.indices.contains(operation.output) else {
                throw fail("its output \(operation.output) is no value.")
            }
            let type = try resultType(of: operation, cachedLayers: &cachedLayers)
            guard graph.values[operation.output] == type else {
                throw fail("its output is declared with another shape than follows from its inputs.")
            }
            guard defined.insert(operation.output).inserted else {
                throw fail("it defines the value \(operation.output) a second time.")
            }
        }
        guard entry.outputs.count == 1, let logits = entry.outputs.first, defined.contains(logits),
            graph.values[logits] == .rows(configuration.vocabularySize)
        else {
            throw fail("its one output must be the logits, \(configuration.vocabularySize) a token.")
        }
        // The engine computes the head for chosen rows alone, so it must be the last operation and a linear one.
        guard let last = entry.operations.last, last.output == logits, case .linear = last.kind else {
            throw fail("the logits must come from its last operation, a linear layer.")
        }
        guard EntryPoint.headActivationBitsChoices.contains(entry.headActivationBits) else {
            throw fail("its head's inputs have \(entry.headActivationBits) bits; they can have 8 or 16.")
        }
        // Compared without a set of all layers, whose number a hostile file chooses.
        guard cachedLayers.count == configuration.layerCount,
            cachedLayers.allSatisfy({ (0..<configuration.layerCount).contains($0) })
        else {
            throw fail("its attention layers are not 0 to \(configuration.layerCount - 1).")
        }
    }

    private func resultType(
        of operation: Operation, cachedLayers: inout Set<Int>
    ) throws(LatheError) -> ValueType {
        switch operation.kind {
        case .embed(let table, let positions):
            guard operation.inputs.count == 1, graph.values[operation.inputs[0]] == .tokenIDs else {
                throw fail("`embed` takes the token ids.")
            }
            let table = try matrix(table)
            guard table.shape[0] == configuration.vocabularySize else {
                throw fail(
                    "`\(table.name)` has \(table.shape[0]) rows for a vocabulary of \(configuration.vocabularySize).")
            }
            if let positions {
                let positions = try parameter(positions, inRows: true)
                guard positions.shape.count == 2, positions.depth == table.depth,
                    positions.shape[0] >= configuration.contextLength
                else { throw fail("`\(positions.name)` has the shape \(positions.shape).") }
            }
            return .rows(table.depth)
        case .layerNorm(let scale, let shift, let epsilon):
            let width = try rowWidth(operation, inputs: 1)
            try vector(scale, count: width)
            try vector(shift, count: width)
            guard epsilon.isFinite && epsilon >= 0 else { throw fail("its epsilon is \(epsilon).") }
            return .rows(width)
        case .linear(let weight, let bias):
            let width = try rowWidth(operation, inputs: 1)
            let weight = try matrix(weight)
            guard weight.depth == width else {
                throw fail("`\(weight.name)` takes \(weight.depth) inputs and gets \(width).")
            }
            if let bias { try vector(bias, count: weight.shape[0]) }
            return .rows(weight.shape[0])
        case .slice(let start, let width):
            let whole = try rowWidth(operation, inputs: 1)
            guard start >= 0, width >= 1, start <= whole, width <= whole - start else {
                throw fail("it takes columns \(start) and \(width) more of \(whole).")
            }
            return .rows(width)
        case .attention(let layer, let heads, let headDimension, let scale):
            let width = try rowWidth(operation, inputs: 3)
            guard heads == configuration.headCount, headDimension == configuration.headDimension,
                heads * headDimension == width, scale.isFinite
            else { throw fail("\(heads) heads of \(headDimension) do not make the width \(width).") }
            guard cachedLayers.insert(layer).inserted else { throw fail("layer \(layer) is attended twice.") }
            return .rows(width)
        case .activation:
            return .rows(try rowWidth(operation, inputs: 1))
        case .add:
            return .rows(try rowWidth(operation, inputs: 2))
        }
    }

    /// The width that all inputs share.
    private func rowWidth(_ operation: Operation, inputs: Int) throws(LatheError) -> Int {
        guard operation.inputs.count == inputs else {
            throw fail("it has \(operation.inputs.count) inputs instead of \(inputs).")
        }
        let first = graph.values[operation.inputs[0]]
        guard first.element == .float32, let width = first.width,
            operation.inputs.allSatisfy({ graph.values[$0] == first })
        else { throw fail("its inputs are not rows of one width.") }
        return width
    }

    private func parameter(_ name: String, inRows: Bool) throws(LatheError) -> Parameter {
        guard let parameter = parameters[name] else { throw fail("there is no parameter `\(name)`.") }
        guard (parameter.encoding == .rows) == inRows else {
            throw fail("`\(name)` is encoded as `\(parameter.encoding.name)`, which this operation cannot read.")
        }
        return parameter
    }

    private func matrix(_ name: String) throws(LatheError) -> Parameter {
        let parameter = try parameter(name, inRows: false)
        guard parameter.shape.count == 2 else { throw fail("`\(name)` is no matrix.") }
        return parameter
    }

    private func vector(_ name: String, count: Int) throws(LatheError) {
        let parameter = try parameter(name, inRows: true)
        guard parameter.shape == [count] else {
            throw fail("`\(name)` has the shape \(parameter.shape) instead of [\(count)].")
        }
    }
}
