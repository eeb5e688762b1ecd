import LatheCompiler
import LatheFormat
import Testing

@testable import Lathe

/// Fusing operations and sharing buffers must never show in a result.
@Suite struct ExecutionPlanTests {
    @Test(arguments: TestModels.tiny, [WeightFormats.int8, .float32])
    func gpt2IsFusedWhole(model name: String, weights: WeightFormats) throws {
        let model = try TestModels.model(name, weights)
        let plan = ExecutionPlan(graph: model.file.graph)
        // Of each block: two norms, attention, and four linear layers, with nothing between them.
        #expect(plan.steps.count == 1 + 7 * model.configuration.layerCount + 1)
        var activations = 0
        var residuals = 0
        for step in plan.steps {
            switch step {
            case .activation, .add: Issue.record("\(step) stands alone")
            case .linear(let linear):
                if linear.activation != nil { activations += 1 }
                if let residual = linear.residual {
                    residuals += 1
                    #expect(residual == linear.output, "the residual stream stays in its buffer")
                }
            default: break
            }
        }
        #expect(activations == model.configuration.layerCount)
        #expect(residuals == 2 * model.configuration.layerCount)
        #expect(plan.bufferWidths.count <= 5)
    }

    /// A graph with an edge that fusion or buffer sharing might get wrong.
    struct Shape: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let build: @Sendable (inout HandMadeModel) -> Void
        init(_ description: String, _ build: @escaping @Sendable (inout HandMadeModel) -> Void) {
            (testDescription, self.build) = (description, build)
        }

        func model(_ encoding: WeightEncoding = .panels, headActivationBits: Int = 16) -> HandMadeModel {
            var model = HandMadeModel(encoding: encoding, headActivationBits: headActivationBits)
            build(&model)
            return model
        }
    }

    static let shapes = [
        Shape("nobody reads a linear layer, a sum, an activation, a norm") { m in
            let x = m.embed()
            _ = m.linear(x, to: 30)
            _ = m.activation(.geluErf, m.linear(x, to: 30))
            _ = m.add(m.linear(x, to: 10), x)
            _ = m.layerNorm(x)
            _ = m.slice(x, 2, 3)
            m.head(m.add(m.attention(x, x, x), x))
        },
        Shape("nobody reads the attention") { m in
            let x = m.embed()
            _ = m.attention(x, x, x)
            m.head(x)
        },
        Shape("a value added to itself") { m in
            let x = m.embed()
            let doubled = m.add(x, x)
            let linear = m.linear(doubled, to: 10)
            let four = m.add(linear, linear)
            m.head(m.add(m.attention(four, four, doubled), four))
        },
        Shape("a linear layer's input is the residual, and dies there") { m in
            let x = m.embed()
            let y = m.add(m.linear(x, to: 10), x)
            m.head(m.attention(y, y, y))
        },
        Shape("a linear layer's input is a slice of the residual's buffer") { m in
            let x = m.embed()
            let wide = m.linear(x, to: 23)
            let a = m.slice(wide, 1, 10)
            let b = m.slice(wide, 12, 10)
            let y = m.add(b, m.linear(a, to: 10))
            m.head(m.attention(y, x, y))
        },
        Shape("the residual is a slice whose whole is read later") { m in
            let x = m.embed()
            let wide = m.linear(x, to: 23)
            let b = m.slice(wide, 12, 10)
            let y = m.add(m.linear(x, to: 10), b)
            let z = m.add(m.linear(wide, to: 10), y)
            m.head(m.attention(z, y, z))
        },
        Shape("the residual is a slice that outlives its whole") { m in
            let x = m.embed()
            let b = m.slice(m.linear(x, to: 23), 12, 10)
            let y = m.add(m.activation(.relu, m.linear(x, to: 10)), b)
            m.head(m.attention(y, x, y))
        },
        Shape("the residual is read again") { m in
            let x = m.embed()
            let y = m.add(m.linear(x, to: 10), x)
            let z = m.add(m.linear(y, to: 10), x)
            m.head(m.attention(x, y, z))
        },
        Shape("an activation's input is read again") { m in
            let x = m.embed()
            let linear = m.linear(x, to: 10)
            let activated = m.activation(.geluTanh, linear)
            let y = m.add(activated, linear)
            m.head(m.attention(y, linear, activated))
        },
        Shape("an activated value is read twice") { m in
            let x = m.embed()
            let activated = m.activation(.relu, m.linear(x, to: 10))
            let y = m.add(activated, x)
            m.head(m.attention(y, y, activated))
        },
        Shape("activation, slice and sum between linear layers, none fusible") { m in
            let x = m.layerNorm(m.embed())
            let wide = m.linear(x, to: 40)
            let part = m.slice(wide, 5, 20)
            let activated = m.activation(.geluErf, part)
            let other = m.slice(wide, 17, 20)
            let y = m.linear(m.add(activated, other), to: 10)
            m.head(m.attention(y, x, y))
        },
        Shape("slices used long after the whole was defined, in reverse") { m in
            let x = m.embed()
            let wide = m.linear(x, to: 30)
            let a = m.slice(wide, 0, 10)
            let b = m.slice(wide, 10, 10)
            let c = m.slice(wide, 20, 10)
            var y = x
            for _ in 0..<3 { y = m.add(m.linear(m.activation(.geluTanh, m.linear(y, to: 50)), to: 10), y) }
            m.head(m.add(m.attention(c, b, a), y))
        },
        Shape("a slice of a slice") { m in
            let x = m.embed(width: 24)
            let inner = m.slice(m.slice(x, 3, 20), 7, 10)
            let normalized = m.layerNorm(inner)
            m.head(m.attention(normalized, inner, m.slice(x, 14, 10)))
        },
        Shape("the sum of two linear layers") { m in
            let x = m.embed()
            let a = m.linear(x, to: 10)
            let b = m.linear(x, to: 10, bias: false)
            m.head(m.attention(m.add(a, b), x, x))
        },
        Shape("a chain that takes every buffer in turn, with narrow and wide values") { m in
            var x = m.embed()
            for width in [70, 3, 33, 10, 64, 10] { x = m.activation(.relu, m.linear(x, to: width)) }
            m.head(m.attention(x, x, x))
        },
        Shape("two layers without positions, keys and values from elsewhere") { m in
            m.configuration.layerCount = 2
            let x = m.embed(positions: false)
            let a = m.attention(m.linear(x, to: 10), x, m.linear(x, to: 10))
            let b = m.attention(x, a, m.layerNorm(a), layer: 1)
            m.head(m.add(b, x))
        },
    ]

    private static let tokens: [Int32] = {
        var random = SeededRandom(seed: 3)
        return (0..<75).map { _ in Int32.random(in: 0..<21, using: &random) }
    }()

    @Test(arguments: shapes)
    func unusualGraphs(shape: Shape) async throws {
        let description = shape.model()
        let expected = description.interpret(Self.tokens)
        let model = try description.model()
        let (_, logits) = try await Run(threads: 2, chunk: 33).engine(model).makeSession().logits(Self.tokens)
        let greatest = expected.joined().reduce(0) { max($0, abs($1)) }
        #expect(logits.count == expected.count)
        let differences = zip(logits.joined(), expected.joined()).map { abs(Double($0) - $1) }
        #expect(differences.allSatisfy { $0 <= 1e-5 * greatest }, "\(differences.max()!) of \(greatest)")
    }

    @Test(arguments: shapes, [WeightEncoding.panels] + WeightEncoding.everyQuantized)
    func unusualGraphsAreTheSameBitsEverywhere(shape: Shape, encoding: WeightEncoding) async throws {
        let model = try shape.model(encoding).model()
        let expected = try await Run(instructionSet: "scalar").engine(model).logitBits(Self.tokens)
        for level in InstructionSet.available {
            for (threads, chunk) in [(1, 512), (3, 9)] {
                let run = Run(instructionSet: level.name, threads: threads, chunk: chunk)
                #expect(firstDifference(try await run.engine(model).logitBits(Self.tokens), expected) == nil, "\(run)")
            }
        }
    }

    /// A value's buffer must not be given away while someone still reads it: checked on the plan itself.
    @Test(arguments: shapes)
    func noStepWritesWhatItReads(shape: Shape) throws {
        let plan = ExecutionPlan(graph: shape.model().graph)
        func overlap(_ a: ExecutionPlan.Place, _ b: ExecutionPlan.Place) -> Bool {
            a.buffer == b.buffer && a.offset < b.offset + b.width && b.offset < a.offset + a.width
        }
        for step in plan.steps {
            switch step {
            case .embed: break
            case .layerNorm(_, _, _, let input, let output), .activation(_, let input, let output):
                #expect(!overlap(input, output))
            case .linear(let linear):
                #expect(!overlap(linear.input, linear.output))
                if let residual = linear.residual {
                    #expect(residual == linear.output || !overlap(residual, linear.output))
                }
            case .attention(_, _, let query, let key, let value, let output):
                for input in [query, key, value] { #expect(!overlap(input, output)) }
            case .add(let a, let b, let output):
                for input in [a, b] { #expect(!overlap(input, output)) }
            }
        }
        #expect(plan.bufferWidths.count <= 8)
    }
}
