import LatheFormat

/// A graph's `decode` entry point as the engine runs it: operations fused where a kernel does several at once, and every
/// value placed in a buffer of the arena.
///
/// Fusing never changes a bit of the result: a linear kernel's epilogue does the same operations in the same order.
struct ExecutionPlan {
    /// Where a value lives while it is alive: columns `offset ..< offset + width` of a buffer's rows.
    struct Place: Hashable {
        var buffer: Int
        var offset: Int
        var width: Int
    }

    struct Linear {
        var weight: Int
        var bias: Int?
        var input: Place
        var output: Place
        var activation: Activation?
        /// Added after the activation; may be the output's own place.
        var residual: Place?
        /// To which the input is rounded where the weights are quantized: 16 at a head that asks for it.
        var activationBits = 8
    }

    enum Step {
        case embed(table: Int, positions: Int?, output: Place)
        case layerNorm(scale: Int, shift: Int, epsilon: Float, input: Place, output: Place)
        case linear(Linear)
        case attention(layer: Int, scale: Float, query: Place, key: Place, value: Place, output: Place)
        case activation(Activation, input: Place, output: Place)
        case add(Place, Place, output: Place)
    }

    /// Everything up to the head, in order. Parameters are indices into `Graph.parameters`.
    private(set) var steps: [Step] = []
    /// The last operation, run for chosen rows alone; its output place has no buffer (-1).
    private(set) var head: Linear
    /// Width of each buffer in floats.
    private(set) var bufferWidths: [Int] = []
    /// The deepest input of any linear layer.
    private(set) var maximumDepth = 0

    /// - Parameter graph: validated.
    init(graph: Graph) {
        let entry = graph.entryPoint("decode")!
        var planner = Planner(graph: graph, entry: entry)
        head = planner.plan()
        head.activationBits = entry.headActivationBits
        steps = planner.steps
        bufferWidths = planner.allocator.widths
        maximumDepth = planner.maximumDepth
    }
}

/// Walks the operations once, fusing forwards and freeing a buffer after the last use of every value in it.
private struct Planner {
    typealias Place = ExecutionPlan.Place
    let graph: Graph
    let operations: [Operation]
    private let parameterIndex: [String: Int]
    /// Operations that read a value.
    private let users: [[Int]]
    private var places: [Int: Place] = [:]
    var steps: [ExecutionPlan.Step] = []
    var allocator = BufferAllocator()
    var maximumDepth = 0

    init(graph: Graph, entry: EntryPoint) {
        self.graph = graph
        operations = entry.operations
        parameterIndex = Dictionary(
            uniqueKeysWithValues: graph.parameters.enumerated().map { ($0.element.name, $0.offset) })
        var users: [[Int]] = Array(repeating: [], count: graph.values.count)
        for (index, operation) in entry.operations.enumerated() {
            for input in operation.inputs { users[input].append(index) }
        }
        self.users = users
    }

    mutating func plan() -> ExecutionPlan.Linear {
        var index = 0
        while index < operations.count - 1 {
            let last = place(index)
            for done in index...last { release(after: done) }
            index = last + 1
        }
        let operation = operations[index]
        guard case .linear(let weight, let bias) = operation.kind else {
            preconditionFailure("a validated graph ends in a linear operation")
        }
        return linear(
            weight: weight, bias: bias, input: operation.inputs[0],
            output: Place(buffer: -1, offset: 0, width: graph.values[operation.output].width!))
    }

    /// Plans the operation at `index` and those fused into it.
    ///
    /// - Returns: the last operation that was planned.
    private mutating func place(_ index: Int) -> Int {
        let operation = operations[index]
        let width = graph.values[operation.output].width!
        switch operation.kind {
        case .embed(let table, let positions):
            let output = define(operation.output, width: width)
            steps.append(
                .embed(
                    table: parameterIndex[table]!, positions: positions.map { parameterIndex[$0]! }, output: output))
        case .layerNorm(let scale, let shift, let epsilon):
            let input = places[operation.inputs[0]]!
            let output = define(operation.output, width: width)
            steps.append(
                .layerNorm(
                    scale: parameterIndex[scale]!, shift: parameterIndex[shift]!, epsilon: epsilon, input: input,
                    output: output))
        case .linear(let weight, let bias):
            return placeLinear(index, weight: weight, bias: bias)
        case .slice(let start, let width):
            var place = places[operation.inputs[0]]!
            place.offset += start
            place.width = width
            places[operation.output] = place
            allocator.retain(place.buffer)
        case .attention(let layer, _, _, let scale):
            let inputs = operation.inputs.map { places[$0]! }
            let output = define(operation.output, width: width)
            steps.append(
                .attention(
                    layer: layer, scale: scale, query: inputs[0], key: inputs[1], value: inputs[2], output: output))
        case .activation(let activation):
            let input = places[operation.inputs[0]]!
            let output = define(operation.output, width: width)
            steps.append(.activation(activation, input: input, output: output))
        case .add:
            let inputs = operation.inputs.map { places[$0]! }
            let output = define(operation.output, width: width)
            steps.append(.add(inputs[0], inputs[1], output: output))
        }
        return index
    }

    /// Takes in an activation and an addition that directly follow and alone use the result.
    private mutating func placeLinear(_ index: Int, weight: String, bias: String?) -> Int {
        var last = index
        var result = operations[index].output
        var activation: Activation?
        var residual: Place?
        var reused: Place?
        if let next = onlyUser(of: result, after: last), case .activation(let kind) = operations[next].kind {
            activation = kind
            (last, result) = (next, operations[next].output)
        }
        if let next = onlyUser(of: result, after: last), case .add = operations[next].kind,
            operations[next].inputs[0] != operations[next].inputs[1]
        {
            let other = operations[next].inputs.first { $0 != result }!
            residual = places[other]!
            // The sum may take the place of the operand that dies here, unless the product still reads from it.
            if users[other].last == next && operations[index].inputs[0] != other
                && allocator.isSole(residual!.buffer)
            {
                reused = residual
            }
            (last, result) = (next, operations[next].output)
        }
        let output: Place
        if let reused {
            output = reused
            places[result] = output
            allocator.retain(output.buffer)
        } else {
            output = define(result, width: graph.values[result].width!)
        }
        var step = linear(weight: weight, bias: bias, input: operations[index].inputs[0], output: output)
        step.activation = activation
        step.residual = residual
        steps.append(.linear(step))
        return last
    }

    private mutating func linear(
        weight: String, bias: String?, input: Int, output: Place
    ) -> ExecutionPlan.Linear {
        let weight = parameterIndex[weight]!
        maximumDepth = max(maximumDepth, graph.parameters[weight].depth)
        return ExecutionPlan.Linear(
            weight: weight, bias: bias.map { parameterIndex[$0]! }, input: places[input]!, output: output,
            activation: nil, residual: nil)
    }

    private func onlyUser(of value: Int, after index: Int) -> Int? {
        users[value] == [index + 1] && index + 1 < operations.count - 1 ? index + 1 : nil
    }

    private mutating func define(_ value: Int, width: Int) -> Place {
        let place = Place(buffer: allocator.allocate(width: width), offset: 0, width: width)
        places[value] = place
        return place
    }

    private mutating func release(after index: Int) {
        // A result that nobody reads dies where it was made.
        let output = operations[index].output
        if users[output].isEmpty, let place = places.removeValue(forKey: output) { allocator.release(place.buffer) }
        for input in Set(operations[index].inputs) where users[input].last == index {
            if let place = places.removeValue(forKey: input) { allocator.release(place.buffer) }
        }
    }
}

/// Buffers by reference count: a slice keeps its whole alive.
private struct BufferAllocator {
    private(set) var widths: [Int] = []
    private var references: [Int] = []

    mutating func allocate(width: Int) -> Int {
        // Best fit among the free ones; else a new buffer.
        let free = references.indices.filter { references[$0] == 0 && widths[$0] >= width }
        if let buffer = free.min(by: { widths[$0] < widths[$1] }) {
            references[buffer] = 1
            return buffer
        }
        widths.append(width)
        references.append(1)
        return widths.count - 1
    }

    func isSole(_ buffer: Int) -> Bool { references[buffer] == 1 }
    mutating func retain(_ buffer: Int) { references[buffer] += 1 }
    mutating func release(_ buffer: Int) { references[buffer] -= 1 }
}
