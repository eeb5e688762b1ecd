import Lathe
import LatheFormat
import Testing

/// Each rule of a graph broken once: a `corrupt` error that says what is wrong, never a trap.
@Suite struct GraphValidationTests {
    struct Lie: Sendable, CustomTestStringConvertible {
        let testDescription: String
        /// What the message must say.
        let expected: String
        let tell: @Sendable (inout HandMadeModel) -> Void
        init(_ description: String, _ expected: String, _ tell: @escaping @Sendable (inout HandMadeModel) -> Void) {
            (testDescription, self.expected, self.tell) = (description, expected, tell)
        }
    }

    /// embed (1), norm (2), linear to 30 (3), slices (4, 5, 6), attention (7), relu (8), sum (9), head (10).
    static func sound() -> HandMadeModel {
        var m = HandMadeModel()
        let x = m.embed()
        let wide = m.linear(m.layerNorm(x), to: 30)
        let (q, k, v) = (m.slice(wide, 0, 10), m.slice(wide, 10, 10), m.slice(wide, 20, 10))
        m.head(m.add(m.activation(.relu, m.attention(q, k, v)), x))
        return m
    }

    static let lies = [
        Lie("no entry point", "no entry point") { $0.graph.entryPoints = [] },
        Lie("no decode", "`decode`") { $0.graph.entryPoints[0].name = "encode" },
        Lie("two entry points of a name", "twice") { $0.graph.entryPoints.append($0.graph.entryPoints[0]) },
        Lie("two inputs", "token ids") { $0.graph.entryPoints[0].inputs = [0, 0] },
        Lie("an input that is no value", "token ids") { $0.graph.entryPoints[0].inputs = [99] },
        Lie("a negative input", "token ids") { $0.graph.entryPoints[0].inputs = [-1] },
        Lie("an input that is no token id", "token ids") { $0.graph.entryPoints[0].inputs = [1] },
        Lie("no operations", "logits") { $0.graph.entryPoints[0].operations = [] },
        Lie("two outputs", "logits") { $0.graph.entryPoints[0].outputs = [10, 10] },
        Lie("an output that nobody defines", "logits") { $0.graph.entryPoints[0].outputs = [99] },
        Lie("an output that is not the logits", "logits") { $0.graph.entryPoints[0].outputs = [9] },
        Lie("a last operation that is not linear", "last operation") { m in
            m.graph.values.append(.rows(21))
            m.graph.entryPoints[0].operations.append(Operation(.activation(.relu), inputs: [10], output: 11))
            m.graph.entryPoints[0].outputs = [11]
        },
        Lie("another vocabulary", "vocabulary of 22") { $0.configuration.vocabularySize = 22 },
        Lie("more layers", "layers") { $0.configuration.layerCount = 2 },
        Lie("a thousand million layers", "layers") { $0.configuration.layerCount = 1_000_000_000 },
        Lie("a layer attended twice", "twice") { m in
            m.graph.values[8] = .rows(10)
            m.graph.entryPoints[0].operations[7] = Operation(
                .attention(layer: 0, heads: 2, headDimension: 5, scale: 1), inputs: [7, 7, 7], output: 8)
        },
        Lie("another number of heads", "heads") { $0.configuration.headCount = 5 },
        Lie("another head dimension", "heads") { $0.configuration.headDimension = 4 },
        Lie("attention of two inputs", "inputs") { $0.graph.entryPoints[0].operations[6].inputs = [4, 5] },
        Lie("attention of different widths", "one width") { $0.graph.entryPoints[0].operations[6].inputs = [4, 5, 3] },
        Lie("attention with an infinite scale", "heads") {
            $0.graph.entryPoints[0].operations[6].kind = .attention(
                layer: 0, heads: 2, headDimension: 5, scale: .infinity)
        },
        Lie("a value before it is defined", "before it is defined") {
            $0.graph.entryPoints[0].operations[1].inputs = [9]
        },
        Lie("a value beyond all", "before it is defined") { $0.graph.entryPoints[0].operations[1].inputs = [1000] },
        Lie("a negative value", "before it is defined") { $0.graph.entryPoints[0].operations[1].inputs = [-3] },
        Lie("an output that is no value", "no value") { $0.graph.entryPoints[0].operations[1].output = 1000 },
        Lie("a value defined twice", "second time") { $0.graph.entryPoints[0].operations[4].output = 4 },
        Lie("an input defined again", "shape") { $0.graph.entryPoints[0].operations[4].output = 0 },
        Lie("another declared width", "shape") { $0.graph.values[2] = .rows(11) },
        Lie("a width of zero", "width 0") { $0.graph.values[2] = .rows(0) },
        Lie("a negative width", "width -5") { $0.graph.values[2] = .rows(-5) },
        Lie("a width beyond all", "width") { $0.graph.values[2] = .rows(.max) },
        Lie("rows without a width", "shape") { $0.graph.values[1].width = nil },
        Lie("an embedding of rows", "token ids") { $0.graph.entryPoints[0].operations[0].inputs = [] },
        Lie("a norm of ids", "rows") { $0.graph.entryPoints[0].operations[1].inputs = [0] },
        Lie("a linear layer of two inputs", "inputs") { $0.graph.entryPoints[0].operations[2].inputs = [2, 2] },
        Lie("a linear layer of another depth", "takes 10 inputs") {
            $0.graph.entryPoints[0].operations[9].inputs = [3]
        },
        Lie("a slice from before the start", "columns -1") {
            $0.graph.entryPoints[0].operations[3].kind = .slice(start: -1, width: 10)
        },
        Lie("a slice past the end", "columns 21") {
            $0.graph.entryPoints[0].operations[3].kind = .slice(start: 21, width: 10)
        },
        Lie("a slice whose end overflows", "columns") {
            $0.graph.entryPoints[0].operations[3].kind = .slice(start: 1, width: .max)
        },
        Lie("an empty slice", "columns") { $0.graph.entryPoints[0].operations[3].kind = .slice(start: 0, width: 0) },
        Lie("a sum of one", "inputs") { $0.graph.entryPoints[0].operations[8].inputs = [8] },
        Lie("a negative epsilon", "epsilon") { m in
            guard case .layerNorm(let scale, let shift, _) = m.graph.entryPoints[0].operations[1].kind else { return }
            m.graph.entryPoints[0].operations[1].kind = .layerNorm(scale: scale, shift: shift, epsilon: -1)
        },
        Lie("an unknown parameter", "no parameter `nobody`") {
            $0.graph.entryPoints[0].operations[9].kind = .linear(weight: "nobody", bias: nil)
        },
        Lie("a vector in place of a matrix", "encoded as") {
            $0.graph.entryPoints[0].operations[9].kind = .linear(weight: "p2", bias: nil)
        },
        Lie("a matrix in place of a vector", "encoded as") {
            $0.graph.entryPoints[0].operations[9].kind = .linear(weight: "p6", bias: "p4")
        },
        Lie("a bias of another length", "shape [10] instead of [30]") {
            $0.graph.entryPoints[0].operations[2].kind = .linear(weight: "p4", bias: "p2")
        },
        Lie("too few positions", "shape") { $0.configuration.contextLength = 81 },
        Lie("a parameter twice", "twice") { $0.graph.parameters.append($0.graph.parameters[2]) },
        Lie("a parameter of no dimension", "shape []") { $0.graph.parameters[2].shape = [] },
        Lie("a parameter of three dimensions", "shape") { $0.graph.parameters[4].shape = [30, 10, 1] },
        Lie("a parameter of a negative size", "shape") { $0.graph.parameters[4].shape = [-30, 10] },
        Lie("a parameter whose size overflows", "shape") { $0.graph.parameters[4].shape = [.max, .max] },
        Lie("a vector in panels", "vector `p2`") { $0.graph.parameters[2].encoding = .panels },
        Lie("int8 too deep for int32", "32768") {
            $0.graph.parameters.append(Parameter(name: "deep", shape: [16, 32769], encoding: .qc8w))
        },
    ]

    @Test func soundGraphIsAccepted() throws {
        let model = Self.sound()
        try model.graph.validate(against: model.configuration, source: "sound")
        #expect(try model.modelFile().graph == model.graph, "written and read, it is the same")
    }

    @Test(arguments: lies)
    func lieIsRefused(lie: Lie) throws {
        var model = Self.sound()
        lie.tell(&model)
        let error = try #require(throws: LatheError.self) {
            try model.graph.validate(against: model.configuration, source: "liar.lathe")
        }
        #expect(error.code == .corrupt)
        #expect(error.message.contains("liar.lathe"))
        #expect(error.message.contains(lie.expected), "\(error.message)")
    }
}
