// The graph as it stands in a `.lathe` file's metadata. Reading checks types and names; `validate` checks meaning.

extension Graph {
    package var json: JSON {
        [
            "parameters": .array(parameters.map(\.json)),
            "values": .array(values.map(\.json)),
            "entry_points": .array(entryPoints.map(\.json)),
        ]
    }

    package init(json: JSON, source: String) throws(LatheError) {
        let source = "\(source), graph"
        let object = try json.object(at: source)
        self.init()
        for item in try object.array("parameters", in: source) {
            let item = try item.object(at: "\(source), parameters")
            let name = try item.string("name", in: source)
            let place = "\(source), parameter `\(name)`"
            let encodingName = try item.string("encoding", in: place)
            guard
                let encoding = WeightEncoding(
                    name: encodingName, groupSize: try item.intIfPresent("group_size", in: place),
                    packedByteCount: try item.intIfPresent("packed_bytes", in: place))
            else {
                throw LatheError(
                    .unsupported,
                    "\(place): the encoding `\(encodingName)` is unknown to this version of Lathe, or lacks its sizes.")
            }
            var shape: [Int] = []
            for dimension in try item.array("shape", in: place) { shape.append(try dimension.int(at: place)) }
            parameters.append(Parameter(name: name, shape: shape, encoding: encoding))
        }
        for item in try object.array("values", in: source) {
            let item = try item.object(at: "\(source), values")
            let element = try item.string("element", in: "\(source), values")
            guard let element = ValueType.Element(rawValue: element) else {
                throw LatheError(.unsupported, "\(source), values: the element type `\(element)` is unknown.")
            }
            values.append(ValueType(element: element, width: try item.intIfPresent("width", in: source)))
        }
        for item in try object.array("entry_points", in: source) {
            entryPoints.append(try EntryPoint(json: item, source: source))
        }
    }
}

extension Parameter {
    fileprivate var json: JSON {
        var members: [(String, JSON)] = [
            ("name", .string(name)), ("shape", .array(shape.map(JSON.number))), ("encoding", .string(encoding.name)),
        ]
        if let size = encoding.quantized?.groupSize { members.append(("group_size", .number(size))) }
        if let count = encoding.quantized?.packedByteCount { members.append(("packed_bytes", .number(count))) }
        return .object(JSONObject(members))
    }
}

extension ValueType {
    fileprivate var json: JSON {
        guard let width else { return ["element": .string(element.rawValue)] }
        return ["element": .string(element.rawValue), "width": .number(width)]
    }
}

extension EntryPoint {
    fileprivate var json: JSON {
        var members: [(String, JSON)] = [
            ("name", .string(name)), ("inputs", .array(inputs.map(JSON.number))),
            ("outputs", .array(outputs.map(JSON.number))),
        ]
        if headActivationBits != 8 { members.append(("head_activation_bits", .number(headActivationBits))) }
        members.append(("operations", .array(operations.map(\.json))))
        return .object(JSONObject(members))
    }

    fileprivate init(json: JSON, source: String) throws(LatheError) {
        let object = try json.object(at: source)
        let name = try object.string("name", in: source)
        let place = "\(source), entry point `\(name)`"
        self.init(
            name: name, inputs: try object.ints("inputs", in: place), outputs: try object.ints("outputs", in: place),
            operations: [], headActivationBits: try object.intIfPresent("head_activation_bits", in: place) ?? 8)
        for (index, item) in try object.array("operations", in: place).enumerated() {
            operations.append(try Operation(json: item, source: "\(place), operation \(index)"))
        }
    }
}

extension Operation.Kind {
    /// The name under which the operation stands in a file.
    package var name: String {
        switch self {
        case .embed: "embed"
        case .layerNorm: "layer_norm"
        case .linear: "linear"
        case .slice: "slice"
        case .attention: "attention"
        case .activation(let activation): activation.rawValue
        case .add: "add"
        }
    }

    fileprivate var attributes: [(String, JSON)] {
        switch self {
        case .embed(let table, let positions):
            [("table", .string(table))] + (positions.map { [("positions", .string($0))] } ?? [])
        case .layerNorm(let scale, let shift, let epsilon):
            [("scale", .string(scale)), ("shift", .string(shift)), ("epsilon", .number(epsilon))]
        case .linear(let weight, let bias):
            [("weight", .string(weight))] + (bias.map { [("bias", .string($0))] } ?? [])
        case .slice(let start, let width):
            [("start", .number(start)), ("width", .number(width))]
        case .attention(let layer, let heads, let headDimension, let scale):
            [
                ("layer", .number(layer)), ("heads", .number(heads)), ("head_dimension", .number(headDimension)),
                ("scale", .number(scale)),
            ]
        case .activation, .add: []
        }
    }
}

extension Operation {
    fileprivate var json: JSON {
        let edges: [(String, JSON)] = [("inputs", .array(inputs.map(JSON.number))), ("output", .number(output))]
        return .object(JSONObject([("op", .string(kind.name))] + kind.attributes + edges))
    }

    fileprivate init(json: JSON, source: String) throws(LatheError) {
        let object = try json.object(at: source)
        let kind: Kind
        let op = try object.string("op", in: source)
        switch op {
        case "embed":
            kind = .embed(
                table: try object.string("table", in: source),
                positions: try object.stringIfPresent("positions", in: source))
        case "layer_norm":
            kind = .layerNorm(
                scale: try object.string("scale", in: source), shift: try object.string("shift", in: source),
                epsilon: try object.float("epsilon", in: source))
        case "linear":
            kind = .linear(
                weight: try object.string("weight", in: source), bias: try object.stringIfPresent("bias", in: source))
        case "slice":
            kind = .slice(start: try object.int("start", in: source), width: try object.int("width", in: source))
        case "attention":
            kind = .attention(
                layer: try object.int("layer", in: source), heads: try object.int("heads", in: source),
                headDimension: try object.int("head_dimension", in: source),
                scale: try object.float("scale", in: source))
        case "add":
            kind = .add
        default:
            guard let activation = Activation(rawValue: op) else {
                throw LatheError(.unsupported, "\(source): the operation `\(op)` is unknown to this version of Lathe.")
            }
            kind = .activation(activation)
        }
        self.init(kind, inputs: try object.ints("inputs", in: source), output: try object.int("output", in: source))
    }
}

extension JSONObject {
    /// The field's digits rounded once, to float32.
    fileprivate func float(_ key: String, in source: String) throws(LatheError) -> Float {
        let value = Float(try double(key, in: source))
        guard case .number(let digits)? = self[key], let exact = Float(digits) else { return value }
        return exact
    }

    fileprivate func ints(_ key: String, in source: String) throws(LatheError) -> [Int] {
        var result: [Int] = []
        for item in try array(key, in: source) { result.append(try item.int(at: "\(source), `\(key)`")) }
        return result
    }
}
