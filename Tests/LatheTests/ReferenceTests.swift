import LatheFormat
import Testing

@testable import LatheCompiler

/// The float32 reference against transformers, and what its hooks promise.
@Suite(.enabled(if: (try? BLAS.load()) != nil, "no OpenBLAS here"))
struct ReferenceTests {
    static let models = TestModels.tiny + ["novelist"]

    private func reference(_ name: String, threads: Int = 2) throws -> Reference {
        let folder = name == "novelist" ? "\(TestModels.package)/models/novelist" : "\(TestModels.golden)/\(name)"
        return try Reference(checkpoint: Checkpoint(path: folder, access: .read), threads: threads)
    }

    @Test(arguments: models, [1, 2])
    func logitsOfTransformers(model name: String, threads: Int) throws {
        let golden = try GoldenReference(name)
        let reference = try reference(name, threads: threads)
        let hidden = try reference.run([golden.ids])
        #expect([hidden.rows, hidden.columns] == [golden.ids.count, reference.configuration.width])
        let greatest = golden.logits.joined().reduce(0) { max($0, abs($1)) }
        for (position, expected) in zip(golden.positions, golden.logits) {
            let logits = try reference.logits(hidden, rows: position..<position + 1)
            try #require([logits.rows, logits.columns] == [1, expected.count])
            let difference = zip(logits.elements, expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
            // Nearer than the engine must be: float32 alone costs about 1e-6.
            #expect(difference <= 1e-5 * greatest, "position \(position): \(difference), largest logit \(greatest)")
        }
    }

    @Test(arguments: models)
    func threadsChangeNothing(model name: String) throws {
        let ids = try GoldenReference(name).ids
        let (one, three) = (try reference(name, threads: 1), try reference(name, threads: 3))
        let hidden = try one.run([ids, ids])
        #expect(hidden.elements == (try three.run([ids, ids])).elements)
        #expect(
            try one.logits(hidden, rows: 0..<hidden.rows).elements
                == (try three.logits(hidden, rows: 0..<hidden.rows)).elements)
    }

    @Test func windowsDoNotSeeEachOther() throws {
        let ids = try GoldenReference("novelist").ids
        let reference = try reference("novelist")
        let windows = [Array(ids[..<150]), Array(ids[150...]), Array(ids[20..<21])]
        let together = try reference.run(windows)
        var row = 0
        for window in windows {
            let alone = try reference.run([window])
            let part = together.elements[row * together.columns..<(row + window.count) * together.columns]
            let scale = alone.elements.reduce(0) { max($0, abs($1)) }
            #expect(zip(part, alone.elements).allSatisfy { abs($0 - $1) <= 1e-5 * scale })
            row += window.count
        }
        #expect(row == together.rows)
    }

    @Test(arguments: models)
    func linearLayersInOrder(model name: String) throws {
        let reference = try reference(name)
        let weights = reference.linearWeights
        #expect(weights.count == 4 * reference.configuration.layerCount + 1)
        #expect(weights.map(\.isHead) == weights.indices.map { $0 == weights.count - 1 })
        #expect(weights[0].name == "h.0.attn.c_attn.weight" && weights[0].bias == "h.0.attn.c_attn.bias")
        var seen: [Reference.LinearWeight] = []
        var fractions: [Double] = []
        let look: (Reference.LinearInput) throws(LatheError) -> Reference.LinearReplacement? = { layer in
            #expect(layer.input.rows == 4 && layer.input.columns == layer.weight.shape[1])
            seen.append(layer.weight)
            return nil
        }
        _ = try reference.run([[1, 2, 0], [2]], progress: { fractions.append($0) }, onLinear: look)
        #expect(seen == weights)
        #expect(fractions == fractions.sorted() && fractions.last == 1)
    }

    // MARK: Replacing

    /// What follows a replaced layer must be what its new weight and bias make of its input.
    @Test(arguments: TestModels.tiny)
    func replacedLayer(model name: String) throws {
        let reference = try reference(name)
        let place = "h.1.attn.c_attn.weight"
        let shape = try #require(reference.linearWeights.first { $0.name == place }).shape
        var random = SeededRandom(seed: 3)
        let weight = FloatMatrix(
            rows: shape[0], columns: shape[1],
            elements: (0..<shape[0] * shape[1]).map { _ in Float.random(in: -0.1...0.1, using: &random) })
        let bias = (0..<shape[0]).map { _ in Float.random(in: -1...1, using: &random) }
        var values: [[Double]] = []
        var attended = FloatMatrix(rows: 0, columns: 0)
        _ = try reference.run([[1, 0, 2]]) { layer in
            if layer.weight.name == "h.1.attn.c_proj.weight" { attended = layer.input }
            guard layer.weight.name == place else { return nil }
            // The first token attends to itself alone: its attention is its value, the last third of the outputs.
            values = (0..<layer.input.rows).map { row in
                (shape[0] / 3 * 2..<shape[0]).map { output in
                    (0..<shape[1]).reduce(Double(bias[output])) {
                        $0 + Double(layer.input[row, $1]) * Double(weight[output, $1])
                    }
                }
            }
            return .init(weight: weight, bias: bias)
        }
        try #require(attended.rows == 3)
        for column in 0..<attended.columns {
            #expect(abs(Double(attended[0, column]) - values[0][column]) <= 1e-5 * (1 + abs(values[0][column])))
        }
    }

    /// Both orders in which a checkpoint may hold a weight, and the head.
    @Test(arguments: TestModels.tiny)
    func replacingByItselfChangesNothing(model name: String) throws {
        let reference = try reference(name)
        let ids = try GoldenReference(name).ids
        let kept = try reference.run([ids])
        let keptLogits = try reference.logits(kept, rows: 0..<ids.count)
        let replaced = try reference.run([ids]) { layer throws(LatheError) in
            try .init(
                weight: reference.weight(layer.weight.name),
                bias: layer.weight.bias.map { (name) throws(LatheError) in try reference.vector(name) })
        }
        let logits = try reference.logits(replaced, rows: 0..<ids.count)
        let scale = keptLogits.elements.reduce(0) { max($0, abs($1)) }
        #expect(zip(logits.elements, keptLogits.elements).allSatisfy { abs($0 - $1) <= 1e-5 * scale })
    }

    @Test func replacedHeadLastsUntilTheNextRun() throws {
        let reference = try reference("tiny-gpt2")
        let vocabulary = reference.configuration.vocabularySize
        let bias = (0..<vocabulary).map(Float.init)
        let hidden = try reference.run([[5, 6]]) { layer in
            guard layer.weight.isHead else { return nil }
            return .init(weight: FloatMatrix(rows: vocabulary, columns: layer.input.columns), bias: bias)
        }
        #expect(try reference.logits(hidden, rows: 1..<2).elements == bias)
        #expect(try reference.logits(try reference.run([[5, 6]]), rows: 1..<2).elements != bias)
    }

    @Test func anErrorOfTheHookEndsTheRun() throws {
        let reference = try reference("tiny-gpt2")
        #expect(throws: LatheError(.invalidRequest, "Enough.")) {
            try reference.run([[1]]) { _ throws(LatheError) in throw LatheError(.invalidRequest, "Enough.") }
        }
    }

    // MARK: Statistics

    @Test(arguments: [1, 3])
    func statisticsOfEachLayer(threads: Int) throws {
        let reference = try reference("tiny-gpt2", threads: threads)
        let windows: [[Int32]] = (0..<17).map { window in (0..<64).map { Int32((window * 37 + $0 * 11) % 101) } }
        var inputs: [String: FloatMatrix] = [:]
        _ = try reference.run(windows) { layer in
            inputs[layer.weight.name] = layer.input
            return nil
        }
        let statistics = try reference.calibrate(windows: windows, gram: true)
        #expect(Set(statistics.keys) == Set(reference.linearWeights.map(\.name)))
        for (name, found) in statistics {
            let input = try #require(inputs[name])
            let channels = input.columns
            #expect(found.count == 17 * 64 && found.channels == channels)
            func column(_ channel: Int) -> [Double] { (0..<input.rows).map { Double(input[$0, channel]) } }
            let columns = (0..<channels).map(column)
            let gram = try #require(found.gram)
            for channel in 0..<channels {
                let squares = columns[channel].reduce(0) { $0 + $1 * $1 }
                let scale = columns[channel].reduce(0) { $0 + abs($1) }
                #expect(abs(found.sums[channel] - columns[channel].reduce(0, +)) <= 1e-12 * scale)
                #expect(abs(found.squares[channel] - squares) <= 1e-12 * squares)
                #expect(found.greatest[channel] == columns[channel].reduce(0) { max($0, abs($1)) })
                for other in channel..<channels {
                    let product = zip(columns[channel], columns[other]).reduce(0) { $0 + $1.0 * $1.1 }
                    let bound = (squares * found.squares[other]).squareRoot()
                    #expect(abs(gram[channel * channels + other] - product) <= 1e-5 * bound, "\(name)")
                    #expect(gram[channel * channels + other] == gram[other * channels + channel])
                }
            }
        }
    }

    // MARK: What it refuses

    @Test func windowsThatTheModelCannotTake() throws {
        let reference = try reference("tiny-gpt2")
        let tooLong = [Int32](repeating: 1, count: 65)
        for windows in [[], [[]], [[1], []], [tooLong], [[101]], [[-1]]] as [[[Int32]]] {
            let error = try #require(throws: LatheError.self) { try reference.run(windows) }
            #expect(error.code == .invalidRequest && error.message.hasSuffix("."))
        }
        let error = try #require(throws: LatheError.self) { try reference.run([tooLong]) }
        #expect(error.message.contains("65") && error.message.contains("64"))
    }
}
