import LatheFormat

/// The weights that a recipe's calibrated steps make, layer by layer, while a text runs through the model.
///
/// Each layer is treated with the inputs that it will have: those of the layers before it as they will be stored. Memory
/// holds the values of one forward pass over the text, one layer's XᵀX (8·k² bytes, thrice while it is factorized), and all
/// treated matrices as they are stored.
struct CalibratedWeights: WeightProvider {
    private var matrices: [String: ProvidedMatrix] = [:]
    private var vectors: [String: [Float]] = [:]

    func matrix(_ name: String) -> ProvidedMatrix? { matrices[name] }
    func rows(_ name: String) -> [Float]? { vectors[name] }

    /// - Parameter windows: token ids of the calibration text.
    /// - Throws: `missing` without OpenBLAS; what the reference says of the checkpoint and the windows.
    init(
        _ recipe: Recipe, formats: [String: TensorFormat], definition: ModelDefinition, reference: Reference,
        windows: [[Int32]], progress: (_ fraction: Double, _ layer: String) -> Void
    ) throws(LatheError) {
        let normalizations = recipe.smooth == nil ? [:] : definition.foldableNormalizations
        let tables = definition.embeddingTables
        var current = ""
        var treated = CalibratedWeights()
        _ = try reference.run(windows, progress: { progress($0, current) }) { layer throws(LatheError) in
            current = layer.weight.name
            // An embedding's rows are looked up too: what suits the product may not suit them.
            guard let format = formats[layer.weight.name], format.weights != .float32,
                !tables.contains(layer.weight.name)
            else { return nil }
            return try treated.treat(
                layer, recipe: recipe, format: format, normalization: normalizations[layer.weight.name],
                reference: reference)
        }
        self = treated
    }

    private init() {}

    private mutating func treat(
        _ layer: Reference.LinearInput, recipe: Recipe, format: TensorFormat,
        normalization: ModelDefinition.FoldableNormalization?, reference: Reference
    ) throws(LatheError) -> Reference.LinearReplacement {
        let name = layer.weight.name
        let original = try reference.weight(name)
        let usesGPTQ = recipe.method == .gptq && !layer.weight.isHead
        let statistics = reference.statistics(of: layer.input, gram: usesGPTQ)
        var weights = original
        var gram = statistics.gram
        var smoothing: Smoothing?
        if let alpha = recipe.smooth, let normalization {
            let found = Smoothing(greatest: statistics.greatest, weights: original, alpha: alpha)
            weights = found.applied(to: original)
            gram = gram.map { found.applied(toGram: $0) }
            vectors[normalization.scale] = found.applied(toNormalization: try reference.vector(normalization.scale))
            vectors[normalization.shift] = found.applied(toNormalization: try reference.vector(normalization.shift))
            smoothing = found
        }
        let encoded =
            if let gram {
                try compensated(weights, gram: gram, format: format, name: name, reference: reference)
            } else {
                try EncodedMatrix(encoding: weights, as: format, name: name, threads: reference.threads)
            }
        matrices[name] = .encoded(encoded)
        var stored = encoded.dequantized()
        if let smoothing { stored = smoothing.undone(stored) }
        var replacement = Reference.LinearReplacement(weight: stored)
        if recipe.correctsBias, let bias = layer.weight.bias {
            let corrected = try reference.vector(bias).adding(
                original.difference(from: stored, times: statistics.means))
            vectors[bias] = corrected
            replacement.bias = corrected
        }
        return replacement
    }

    private func compensated(
        _ weights: FloatMatrix, gram: [Double], format: TensorFormat, name: String, reference: Reference
    ) throws(LatheError) -> EncodedMatrix {
        guard let gptq = GPTQ(gram: gram, blas: reference.blas) else {
            throw LatheError(
                .notFinite,
                "The inputs of \(quoted(name)) on the calibration text are beyond what GPTQ can factorize; use --method rtn "
                    + "or another text.")
        }
        return try gptq.encode(weights, as: format, name: name, threads: reference.threads)
    }
}

extension GPTQ {
    /// `weights` in the format, dense. The packer chooses each output's scale, by what errors cost after compensation.
    func encode(
        _ weights: FloatMatrix, as format: TensorFormat, name: String, threads: Int
    ) throws(LatheError) -> EncodedMatrix {
        let grid = WeightGrid(
            of: try EncodedMatrix(encoding: weights, as: format, importance: costs, name: name, threads: threads))
        let result = quantize(weights, grid: grid, threads: threads)
        return try EncodedMatrix(
            numbers: result.values, multipliers: result.multipliers, groupSize: grid.groupSize, scales: grid.scales,
            for: weights, name: name, threads: threads)
    }
}

extension FloatMatrix {
    /// (W − V)·x of vectors x [columns], in float64.
    func difference(from other: FloatMatrix, times x: [Double]) -> [Double] {
        (0..<rows).map { row in
            var sum = 0.0
            for column in 0..<columns {
                let index = row * columns + column
                sum += (Double(elements[index]) - Double(other.elements[index])) * x[column]
            }
            return sum
        }
    }
}

extension [Float] {
    fileprivate func adding(_ other: [Double]) -> [Float] { zip(self, other).map { Float(Double($0) + $1) } }
}
