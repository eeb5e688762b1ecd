package import LatheFormat

/// The float32 forward pass of a checkpoint: what every compressed model is compared with.
///
/// It goes through the architecture's graph operation by operation, each over all tokens of all windows, and shares
/// nothing with the engine: products are OpenBLAS's, all else is written out here for exactness first. Weights are read
/// from the checkpoint when their operation comes and dropped after it, and values are freed after their last use, so
/// that memory holds one layer and a few values of [tokens, width].
///
/// For one machine and one build of OpenBLAS the results do not depend on the number of threads.
package final class Reference {
    package let configuration: ModelConfiguration
    let definition: ModelDefinition
    let threads: Int
    let blas: BLAS
    private let source: String
    private let sources: [String: WeightSource]
    /// The head, kept between calls of `logits`; the replacement that a run gave it, until the next run.
    private var head: (weight: StoredWeight, bias: [Float]?)?

    /// Reads the configuration and checks every tensor's shape; weights are read while it runs.
    ///
    /// - Parameter checkpoint: opened with `access: .read`, so that the weights' pages are not kept.
    /// - Throws: `missing` where OpenBLAS is not installed; what the architecture says of the checkpoint.
    package init(checkpoint: Checkpoint, threads: Int) throws(LatheError) {
        blas = try BLAS.load()
        definition = try Architectures.define(checkpoint)
        configuration = definition.configuration
        self.threads = max(1, threads)
        source = checkpoint.path
        sources = Dictionary(uniqueKeysWithValues: definition.weights.map { ($0.name, $0) })
        // The rules that the engine relies on are relied on here too.
        try Graph(
            parameters: definition.weights.map {
                Parameter(name: $0.name, shape: $0.shape, encoding: $0.role == .matrix ? .panels : .rows)
            },
            values: definition.values, entryPoints: definition.entryPoints
        ).validate(against: configuration, source: source)
    }

    // MARK: Weights

    /// A linear layer's weight, as the graph names it.
    package struct LinearWeight: Hashable, Sendable {
        package let name: String
        /// The name of the layer's bias, if it has one.
        package let bias: String?
        /// [n, k]: n outputs of k inputs.
        package let shape: [Int]
        /// The last layer, whose outputs are the logits. Its weight may be the embedding table's.
        package let isHead: Bool
    }

    /// The weights of all linear layers in the order in which the forward pass reads them; the head is the last.
    package var linearWeights: [LinearWeight] {
        let operations = entryPoint.operations
        return operations.indices.compactMap { index in
            guard case .linear(let weight, let bias) = operations[index].kind else { return nil }
            return LinearWeight(
                name: weight, bias: bias, shape: sources[weight]!.shape, isHead: index == operations.count - 1)
        }
    }

    var entryPoint: EntryPoint { definition.entryPoints.first { $0.name == "decode" }! }

    /// The matrix called `name` as [n, k]: n outputs, or the n rows of a table. Traps if the model has no such parameter.
    package func weight(_ name: String) throws(LatheError) -> FloatMatrix {
        let stored = try storedWeight(name)
        return stored.isTransposed ? stored.matrix.transposed() : stored.matrix
    }

    /// The vector called `name`: a bias, or a scale or shift of a normalization. Traps if the model has no such parameter.
    package func vector(_ name: String) throws(LatheError) -> [Float] { try storedWeight(name).matrix.elements }

    /// A matrix as the checkpoint holds it: [n, k], or [k, n] where `isTransposed`.
    struct StoredWeight {
        let matrix: FloatMatrix
        let isTransposed: Bool

        /// As the right factor of x·Wᵀ.
        var factor: BLAS.Factor {
            BLAS.Factor(elements: matrix.elements, stride: matrix.columns, isTransposed: !isTransposed)
        }
    }

    func storedWeight(_ name: String) throws(LatheError) -> StoredWeight {
        guard let source = sources[name] else { preconditionFailure("the model has no parameter \(name)") }
        let tensor = source.entry.tensor
        var elements: [Float] = []
        elements.reserveCapacity(tensor.elementCount)
        // In pieces, so that a large table does not stand in memory twice.
        let piece = 1 << 20
        for start in stride(from: 0, to: tensor.elementCount, by: piece) {
            let floats = try source.entry.file.floats(
                of: tensor, elements: start..<min(start + piece, tensor.elementCount)
            ).view
            if let bad = floats.firstNotFinite {
                throw LatheError(
                    .notFinite,
                    "\(quoted(source.entry.file.path)): the tensor \(quoted(tensor.name)) holds a value that is not "
                        + "finite at element \(start + bad); train or export the checkpoint again.")
            }
            floats.withSpan(of: Float.self) { floats in
                for index in floats.indices { elements.append(floats[index]) }
            }
        }
        let isMatrix = tensor.shape.count == 2
        return StoredWeight(
            matrix: FloatMatrix(
                rows: isMatrix ? tensor.shape[0] : 1, columns: tensor.shape[tensor.shape.count - 1],
                elements: elements),
            isTransposed: source.isTransposed)
    }

    // MARK: Running

    /// A linear layer about to run.
    package struct LinearInput {
        package let weight: LinearWeight
        /// [tokens, k], the windows after each other: what the layer multiplies by its weight.
        package let input: FloatMatrix
    }

    /// What takes a linear layer's place; nil keeps the checkpoint's.
    package struct LinearReplacement {
        /// [n, k]
        package var weight: FloatMatrix?
        /// [n]
        package var bias: [Float]?

        package init(weight: FloatMatrix? = nil, bias: [Float]? = nil) {
            self.weight = weight
            self.bias = bias
        }
    }

    /// Runs all windows, each from position 0 and by itself, up to the head.
    ///
    /// - Parameters:
    ///   - windows: token ids; at least one window, none empty, none longer than the context.
    ///   - onLinear: called before each linear layer, the head included. What it returns replaces the layer in this run
    ///     and, for the head, in `logits` until the next run. Layers that follow see the replaced layer's results.
    ///   - progress: called with the fraction of the work that is done.
    /// - Returns: the head's input rows [tokens, width], the windows after each other.
    /// - Throws: `invalidRequest` for windows that the model cannot take, `notFinite` for a result that is none, and what
    ///   reading the checkpoint or `onLinear` throws.
    package func run(
        _ windows: [[Int32]], progress: (Double) -> Void = { _ in },
        onLinear: (LinearInput) throws(LatheError) -> LinearReplacement?
    ) throws(LatheError) -> FloatMatrix {
        try check(windows)
        head = nil
        let operations = entryPoint.operations
        var pass = ReferencePass(windows: windows, operations: operations, blas: blas, threads: threads)
        let work = operations.map { self.work(of: $0) }
        let total = Double(work.reduce(0, +))
        var done = 0
        for (index, operation) in operations.enumerated() {
            if index == operations.count - 1 { break }
            try run(operation, in: &pass, onLinear)
            done += work[index]
            progress(Double(done) / total)
        }
        let hidden = pass.take(operations[operations.count - 1].inputs[0]).asMatrix()
        guard hidden.elements.allSatisfy(\.isFinite) else {
            throw LatheError(
                .notFinite, "\(source): the float32 forward pass met a value that is not finite; check the weights.")
        }
        let weight = linearWeights[linearWeights.count - 1]
        if let replacement = try onLinear(LinearInput(weight: weight, input: hidden)) {
            head = try layer(weight, replacement)
        }
        progress(1)
        return hidden
    }

    /// The checkpoint as it is: `run` without replacements.
    package func run(_ windows: [[Int32]]) throws(LatheError) -> FloatMatrix {
        try run(windows) { _ in nil }
    }

    private func run(
        _ operation: Operation, in pass: inout ReferencePass,
        _ onLinear: (LinearInput) throws(LatheError) -> LinearReplacement?
    ) throws(LatheError) {
        let output = operation.output
        switch operation.kind {
        case .embed(let table, let positions):
            pass[output] = pass.embed(
                table: try weight(table), positions: try positions.map { (name) throws(LatheError) in try weight(name) }
            )
        case .layerNorm(let scale, let shift, let epsilon):
            pass[output] = pass.layerNorm(
                pass.take(operation.inputs[0]), scale: try vector(scale), shift: try vector(shift), epsilon: epsilon)
        case .linear(let name, let bias):
            let weight = LinearWeight(name: name, bias: bias, shape: sources[name]!.shape, isHead: false)
            let input = pass.take(operation.inputs[0]).asMatrix()
            let layer = try layer(weight, try onLinear(LinearInput(weight: weight, input: input)))
            pass[output] = .init(Self.linear(input, layer.weight, layer.bias, blas: blas, threads: threads))
        case .slice(let start, let width):
            pass[output] = pass.take(operation.inputs[0]).slice(start: start, width: width)
        case .attention(_, let heads, let headDimension, let scale):
            let inputs = operation.inputs.map { pass.take($0) }
            pass[output] = pass.attention(
                inputs[0], inputs[1], inputs[2], heads: heads, headDimension: headDimension, scale: scale)
        case .activation(let activation):
            pass[output] = pass.activate(pass.take(operation.inputs[0]), activation)
        case .add:
            pass[output] = pass.add(pass.take(operation.inputs[0]), pass.take(operation.inputs[1]))
        }
    }

    /// The logits [rows, vocabulary] of `rows` of what the last `run` returned, with the head that it left.
    package func logits(_ hidden: FloatMatrix, rows: Range<Int>) throws(LatheError) -> FloatMatrix {
        precondition(rows.lowerBound >= 0 && rows.upperBound <= hidden.rows, "rows outside the hidden states")
        let layer: (weight: StoredWeight, bias: [Float]?)
        if let head { layer = head } else { layer = try self.layer(linearWeights[linearWeights.count - 1], nil) }
        head = layer
        let width = hidden.columns
        let input = FloatMatrix(
            rows: rows.count, columns: width,
            elements: Array(hidden.elements[rows.lowerBound * width..<rows.upperBound * width]))
        return Self.linear(input, layer.weight, layer.bias, blas: blas, threads: threads)
    }

    /// The checkpoint's layer, or what replaces it.
    private func layer(
        _ weight: LinearWeight, _ replacement: LinearReplacement?
    ) throws(LatheError) -> (weight: StoredWeight, bias: [Float]?) {
        let stored: StoredWeight
        if let matrix = replacement?.weight {
            precondition([matrix.rows, matrix.columns] == weight.shape, "a replacement has the shape of its layer")
            stored = StoredWeight(matrix: matrix, isTransposed: false)
        } else {
            stored = try storedWeight(weight.name)
        }
        var bias = replacement?.bias
        if bias == nil, let name = weight.bias { bias = try vector(name) }
        precondition(bias == nil || bias!.count == weight.shape[0], "a bias has an element for each output")
        return (stored, bias)
    }

    /// Multiplications for each token, roughly: what progress is measured by.
    private func work(of operation: Operation) -> Int {
        switch operation.kind {
        case .linear(let name, _): sources[name]!.shape.reduce(1, *)
        case .embed, .layerNorm, .activation, .add: 10 * definition.values[operation.output].width!
        case .attention: 500 * definition.values[operation.output].width!
        case .slice: 0
        }
    }

    private func check(_ windows: [[Int32]]) throws(LatheError) {
        guard !windows.isEmpty, windows.allSatisfy({ !$0.isEmpty }) else {
            throw LatheError(
                .invalidRequest, "The reference needs at least one window, and in each at least one token.")
        }
        for window in windows {
            guard window.count <= configuration.contextLength else {
                throw LatheError(
                    .invalidRequest,
                    "A window has \(window.count) tokens; the model's context holds \(configuration.contextLength).")
            }
            if let id = window.first(where: { $0 < 0 || Int($0) >= configuration.vocabularySize }) {
                throw LatheError(
                    .invalidRequest,
                    "The token id \(id) is outside the model's vocabulary of \(configuration.vocabularySize).")
            }
        }
    }
}
