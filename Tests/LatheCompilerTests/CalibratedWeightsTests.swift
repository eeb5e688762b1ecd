import Lathe
import LatheFormat
import Testing

@testable import LatheCompiler

/// A recipe's calibrated steps over the float32 reference.
@Suite(.enabled(if: (try? BLAS.load()) != nil, "no OpenBLAS here"))
struct CalibratedWeightsTests {
    /// A golden checkpoint, and windows of ids that its vocabulary has.
    private struct Model {
        let checkpoint: Checkpoint
        let definition: ModelDefinition
        let reference: Reference
        let windows: [[Int32]]

        init(_ name: String) throws {
            let folder =
                name == "novelist"
                ? "\(TokenizerFixtures.package)/models/novelist" : "\(TokenizerFixtures.package)/Tests/Golden/\(name)"
            checkpoint = try Checkpoint(path: folder)
            definition = try Architectures.define(checkpoint)
            reference = try Reference(checkpoint: checkpoint, threads: 2)
            if name == "novelist" {
                let text = try TokenizerFixtures.bytes("\(folder)/calibration.txt")
                let tokens = try TokenizerFixtures.tokenizer(folder: folder).encode(bytes: text)
                windows = try CalibrationText.windows(tokens: tokens, length: 256, count: 16)
            } else {
                var random = SplitMix64(seed: 9)
                let vocabulary = UInt64(reference.configuration.vocabularySize)
                windows = (0..<8).map { _ in (0..<30).map { _ in Int32(random.next() % vocabulary) } }
            }
        }

        func treated(_ recipe: Recipe) throws -> CalibratedWeights {
            try CalibratedWeights(
                recipe, formats: try RecipePlan(recipe, for: definition).formats, definition: definition,
                reference: reference, windows: windows
            ) { _, _ in }
        }

        func statistics(gram: Bool = false) throws -> [String: CalibrationStatistics] {
            try reference.calibrate(windows: windows, gram: gram)
        }
    }

    private func stored(_ name: String, in weights: CalibratedWeights) throws -> FloatMatrix {
        guard case .encoded(let matrix) = weights.matrix(name) else {
            throw LatheError(.missing, "\(name) was not treated")
        }
        return matrix.dequantized()
    }

    /// The bundled trained model's own activations: what a layer's output errs by, on a text, must go down.
    @Test(arguments: [Recipe(weights: .int8), Recipe(weights: .int4, groupSize: 32), Recipe(weights: .int4)])
    func gptqErrsLessThanRounding(recipe: Recipe) throws {
        let model = try Model("novelist")
        var gptq = recipe
        gptq.method = .gptq
        let compensated = try model.treated(gptq)
        // Of the first block, whose first layer's inputs are those of the original.
        for layer in model.reference.linearWeights.prefix(1) {
            let weights = try model.reference.weight(layer.name)
            let nearest = try EncodedMatrix(
                encoding: weights, as: RecipePlan(recipe, for: model.definition).formats[layer.name]!, name: layer.name,
                threads: 2
            ).dequantized()
            let gram = try #require(try model.statistics(gram: true)[layer.name]?.gram)
            let before = outputError(weights, nearest, gram)
            let after = outputError(weights, try stored(layer.name, in: compensated), gram)
            #expect(after < 0.7 * before, "\(layer.name): \(after) against \(before)")
        }
        #expect(compensated.matrix("wte.weight") == nil)
        #expect(model.reference.linearWeights.dropLast().allSatisfy { compensated.matrix($0.name) != nil })
    }

    /// tr((W − Ŵ)·XᵀX·(W − Ŵ)ᵀ) = ‖X(W − Ŵ)ᵀ‖².
    private func outputError(_ weights: FloatMatrix, _ replacement: FloatMatrix, _ gram: [Double]) -> Double {
        let k = weights.columns
        var total = 0.0
        for row in 0..<weights.rows {
            let difference = (0..<k).map { Double(weights[row, $0]) - Double(replacement[row, $0]) }
            for i in 0..<k {
                var sum = 0.0
                for j in 0..<k { sum += gram[i * k + j] * difference[j] }
                total += difference[i] * sum
            }
        }
        return total
    }

    @Test(arguments: [Recipe.Method.roundToNearest, .gptq])
    func correctedBiasesMakeUpForTheMeanError(method: Recipe.Method) throws {
        let model = try Model("tiny-gpt2")
        var recipe = Recipe(weights: .int4, groupSize: 32)
        recipe.method = method
        recipe.correctsBias = true
        let treated = try model.treated(recipe)
        // The run that uses what was made gives the inputs on which it was made.
        var layers = 0
        _ = try model.reference.run(model.windows) { layer throws(LatheError) in
            guard let name = layer.weight.bias, let bias = treated.rows(name),
                case .encoded(let matrix) = treated.matrix(layer.weight.name)
            else { return nil }
            layers += 1
            let stored = matrix.dequantized()
            let original = try model.reference.weight(layer.weight.name)
            let originalBias = try model.reference.vector(name)
            let means = model.reference.statistics(of: layer.input).means
            for row in 0..<original.rows {
                var before = Double(originalBias[row])
                var after = Double(bias[row])
                for column in 0..<original.columns {
                    before += Double(original[row, column]) * means[column]
                    after += Double(stored[row, column]) * means[column]
                }
                #expect(abs(before - after) < 1e-4)
            }
            return .init(weight: stored, bias: bias)
        }
        #expect(layers == 8)
    }

    @Test func smoothingMovesScaleFromInputsToWeights() throws {
        let model = try Model("tiny-gpt2")
        var recipe = Recipe(weights: .int8)
        recipe.smooth = 0.5
        let treated = try model.treated(recipe)
        let statistics = try #require(try model.statistics()["h.0.attn.c_attn.weight"])
        let original = try model.reference.weight("h.0.attn.c_attn.weight")
        let smoothed = try stored("h.0.attn.c_attn.weight", in: treated)
        let scale = try model.reference.vector("h.0.ln_1.weight")
        let shift = try model.reference.vector("h.0.ln_1.bias")
        let newScale = try #require(treated.rows("h.0.ln_1.weight"))
        let newShift = try #require(treated.rows("h.0.ln_1.bias"))
        for column in 0..<original.columns {
            let weights = (0..<original.rows).map { Double(abs(original[$0, column])) }.max()!
            let factor = (statistics.greatest[column] / weights).squareRoot()
            #expect(abs(Double(scale[column] / newScale[column]) / factor - 1) < 1e-5)
            #expect(abs(Double(newShift[column]) * factor - Double(shift[column])) < 1e-5)
            for row in 0..<original.rows {
                let step = (0..<smoothed.columns).map { abs(smoothed[row, $0]) }.max()! / 127
                #expect(abs(smoothed[row, column] - original[row, column] * Float(factor)) < 0.51 * step)
            }
        }
        // Only what follows a normalization alone: not the projections, and not the head that is the embedding.
        #expect(treated.rows("h.1.ln_2.weight") != nil && treated.rows("ln_f.weight") == nil)
    }

    @Test func whatANormalizationFolds() throws {
        let tied = try Model("tiny-gpt2").definition.foldableNormalizations
        #expect(
            tied.mapValues(\.scale) == [
                "h.0.attn.c_attn.weight": "h.0.ln_1.weight", "h.0.mlp.c_fc.weight": "h.0.ln_2.weight",
                "h.1.attn.c_attn.weight": "h.1.ln_1.weight", "h.1.mlp.c_fc.weight": "h.1.ln_2.weight",
            ])
        #expect(try Model("odd-gpt2").definition.foldableNormalizations["lm_head.weight"]?.shift == "ln_f.bias")
    }

    /// Through the compiler: the file is a model, the same each time, and knows how it was made.
    @Test func filesAreTheSameWhateverTheThreads() throws {
        let model = try Model("odd-gpt2")
        var recipe = Recipe(weights: .int4, groupSize: 32)
        recipe.method = .gptq
        recipe.smooth = 0.5
        recipe.correctsBias = true
        let files = try [1, 2].map { threads in
            var compiler = Compiler(recipe: recipe, threads: threads)
            compiler.calibrationWindows = model.windows
            return try compiler.compileInMemory(checkpoint: model.checkpoint.path)
        }
        #expect(files[0].view.hasSameBytes(as: files[1].view))
        var compiler = Compiler(recipe: recipe)
        compiler.calibrationWindows = []
        let error = try #require(throws: LatheError.self) {
            try compiler.compileInMemory(checkpoint: model.checkpoint.path)
        }
        #expect(error.code == .invalidRequest && error.message.contains("--calibration"))
    }
}
