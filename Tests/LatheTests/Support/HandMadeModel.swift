import CKernels
import Lathe
import LatheFormat

/// A model whose graph a test writes by hand, with seeded weights: `.lathe` bytes for the engine, and the plain numbers
/// for the interpreter.
struct HandMadeModel {
    var configuration: ModelConfiguration
    var graph = Graph(values: [.tokenIDs])
    /// Row-major, in the true shape.
    var weights: [String: [Float]] = [:]
    private var operations: [Operation] = []
    private var random: SeededRandom
    private var encoding: WeightEncoding
    private let headActivationBits: Int

    init(
        vocabulary: Int = 21, context: Int = 80, width: Int = 10, heads: Int = 2, layers: Int = 1,
        encoding: WeightEncoding = .panels, headActivationBits: Int = 16, seed: UInt64 = 1
    ) {
        configuration = ModelConfiguration(
            architecture: "hand-made", vocabularySize: vocabulary, contextLength: context, width: width,
            layerCount: layers, headCount: heads, headDimension: width / heads, beginningOfTextID: 0, endOfTextIDs: [])
        self.encoding = encoding
        self.headActivationBits = headActivationBits
        random = SeededRandom(seed: seed)
    }

    // MARK: Operations; each returns the value that it defines

    mutating func emit(_ kind: Operation.Kind, _ inputs: [Int], width: Int) -> Int {
        graph.values.append(.rows(width))
        operations.append(Operation(kind, inputs: inputs, output: graph.values.count - 1))
        return graph.values.count - 1
    }

    mutating func embed(width: Int? = nil, positions: Bool = true) -> Int {
        let width = width ?? configuration.width
        let table = matrix(configuration.vocabularySize, width)
        let position = positions ? parameter([configuration.contextLength, width], .rows) : nil
        return emit(.embed(table: table, positions: position), [0], width: width)
    }

    mutating func linear(_ input: Int, to columns: Int, bias: Bool = true) -> Int {
        let weight = matrix(columns, width(input))
        return emit(.linear(weight: weight, bias: bias ? parameter([columns], .rows) : nil), [input], width: columns)
    }

    mutating func layerNorm(_ input: Int) -> Int {
        let width = width(input)
        return emit(
            .layerNorm(scale: parameter([width], .rows), shift: parameter([width], .rows), epsilon: 1e-5), [input],
            width: width)
    }

    mutating func slice(_ input: Int, _ start: Int, _ width: Int) -> Int {
        emit(.slice(start: start, width: width), [input], width: width)
    }

    mutating func attention(_ query: Int, _ key: Int, _ value: Int, layer: Int = 0) -> Int {
        emit(
            .attention(
                layer: layer, heads: configuration.headCount, headDimension: configuration.headDimension, scale: 0.4),
            [query, key, value], width: width(query))
    }

    mutating func activation(_ activation: Activation, _ input: Int) -> Int {
        emit(.activation(activation), [input], width: width(input))
    }

    mutating func add(_ a: Int, _ b: Int) -> Int { emit(.add, [a, b], width: width(a)) }

    /// The last operation: the logits.
    mutating func head(_ input: Int) {
        let weight = matrix(configuration.vocabularySize, width(input))
        let logits = emit(.linear(weight: weight, bias: nil), [input], width: configuration.vocabularySize)
        graph.entryPoints = [
            EntryPoint(
                name: "decode", inputs: [0], outputs: [logits], operations: operations,
                headActivationBits: headActivationBits)
        ]
    }

    private func width(_ value: Int) -> Int { graph.values[value].width! }
    private mutating func matrix(_ columns: Int, _ depth: Int) -> String { parameter([columns, depth], encoding) }

    private mutating func parameter(_ shape: [Int], _ encoding: WeightEncoding) -> String {
        let name = "p\(graph.parameters.count)"
        var values = random.floats(shape.reduce(1, *))
        var parameter = Parameter(name: name, shape: shape, encoding: encoding)
        if case .quantized(var panels) = encoding, panels.packedByteCount != nil {
            // Two thirds are pruned, and one panel whole. Only the packed weights tell their size.
            for index in values.indices where index % 3 != 1 || index / shape[1] / 16 == 1 { values[index] = 0 }
            panels.packedByteCount = PackedMatrix(parameter, values).packed!.values.count
            parameter.encoding = .quantized(panels)
        }
        graph.parameters.append(parameter)
        weights[name] = values
        return name
    }

    // MARK: The file

    /// The bytes of every tensor, in file order.
    func tensors() -> [(declaration: TensorDeclaration, bytes: [UInt8])] {
        graph.parameters.flatMap { parameter -> [(TensorDeclaration, [UInt8])] in
            zip(parameter.parts, pack(parameter)).map {
                (TensorDeclaration(name: $0.name, dtype: $0.dtype, shape: $0.shape), $1)
            }
        }
    }

    private func pack(_ parameter: Parameter) -> [[UInt8]] {
        let (columns, depth, values) = (parameter.columns, parameter.depth, weights[parameter.name]!)
        let panels = columns.roundedUp(to: 16) / 16
        switch parameter.encoding {
        case .rows:
            let padded = depth.roundedUp(to: 16)
            var rows = [Float](repeating: 0, count: columns * padded)
            for n in 0..<columns { for k in 0..<depth { rows[n * padded + k] = values[n * depth + k] } }
            return [bytes(rows)]
        case .panels:
            var packed = [Float](repeating: 0, count: panels * 16 * depth)
            for n in 0..<columns {
                for k in 0..<depth { packed[(n / 16 * depth + k) * 16 + n % 16] = values[n * depth + k] }
            }
            return [bytes(packed)]
        case .quantized: return PackedMatrix(parameter, values).parts
        }
    }

    private func bytes<T>(_ values: [T]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }

    /// A file in memory.
    static func file(
        configuration: ModelConfiguration, graph: Graph, tensors: [(declaration: TensorDeclaration, bytes: [UInt8])]
    ) throws(LatheError) -> MappedFile {
        let writer = try LatheFileWriter(
            .memory(name: "hand-made"),
            metadata: ModelFile.metadata(
                configuration: configuration, graph: graph, recipe: .object(JSONObject()), tokenizer: nil),
            tensors: tensors.map(\.declaration))
        for tensor in tensors { try writer.write(ByteView(copying: tensor.bytes)) }
        return try writer.finish()!
    }

    func modelFile() throws(LatheError) -> ModelFile {
        try ModelFile.open(
            mapped: try Self.file(configuration: configuration, graph: graph, tensors: tensors()), verify: true)
    }

    func model() throws(LatheError) -> Model { try Model(file: try modelFile()) }
}

// MARK: - The interpreter

extension HandMadeModel {
    /// Logits after each token, in float64, operation by operation as `Graph` defines them: no fusion, no cache, no
    /// buffer is ever shared. float32 weights only.
    func interpret(_ tokens: [Int32]) -> [[Double]] {
        let entry = graph.entryPoint("decode")!
        var values: [Int: [[Double]]] = [:]
        for operation in entry.operations {
            let inputs = operation.inputs.map { values[$0] ?? [] }
            values[operation.output] = evaluate(operation.kind, inputs, tokens)
        }
        return values[entry.outputs[0]]!
    }

    private func evaluate(_ kind: Operation.Kind, _ inputs: [[[Double]]], _ tokens: [Int32]) -> [[Double]] {
        switch kind {
        case .embed(let table, let positions):
            return tokens.enumerated().map { position, id in
                let row = weightRow(table, Int(id))
                return positions.map { zip(row, weightRow($0, position)).map(+) } ?? row
            }
        case .layerNorm(let scale, let shift, let epsilon):
            return inputs[0].map { row in
                let mean = row.reduce(0, +) / Double(row.count)
                let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(row.count)
                let factor = 1 / (variance + Double(epsilon)).squareRoot()
                return row.indices.map {
                    (row[$0] - mean) * factor * Double(weights[scale]![$0]) + Double(weights[shift]![$0])
                }
            }
        case .linear(let weight, let bias):
            let columns = graph.parameter(weight)!.columns
            return inputs[0].map { row in
                (0..<columns).map { n in
                    zip(row, weightRow(weight, n)).reduce(bias.map { Double(weights[$0]![n]) } ?? 0) {
                        $0 + $1.0 * $1.1
                    }
                }
            }
        case .slice(let start, let width): return inputs[0].map { Array($0[start..<start + width]) }
        case .attention(_, let heads, let dimension, let scale):
            return inputs[0].indices.map { position in
                (0..<heads).flatMap { head -> [Double] in
                    let columns = head * dimension..<(head + 1) * dimension
                    let scores = (0...position).map { t in
                        columns.reduce(0) { $0 + inputs[0][position][$1] * Double(scale) * inputs[1][t][$1] }
                    }
                    let exponentials = scores.map { _exp($0 - scores.max()!) }
                    let sum = exponentials.reduce(0, +)
                    return columns.map { column in
                        (0...position).reduce(0) { $0 + exponentials[$1] * inputs[2][$1][column] } / sum
                    }
                }
            }
        case .activation(let activation): return inputs[0].map { $0.map { activate(activation, $0) } }
        case .add: return zip(inputs[0], inputs[1]).map { zip($0, $1).map(+) }
        }
    }

    private func weightRow(_ name: String, _ row: Int) -> [Double] {
        let depth = graph.parameter(name)!.depth
        return weights[name]![row * depth..<(row + 1) * depth].map(Double.init)
    }

    private func activate(_ activation: Activation, _ x: Double) -> Double {
        switch activation {
        case .geluTanh: x / 2 * (1 + _tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
        case .geluErf: x / 2 * (1 + _erf(x / 2.0.squareRoot()))
        case .relu: max(x, 0)
        }
    }
}
