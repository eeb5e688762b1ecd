import Lathe
import LatheCompiler
public import LatheFormat

/// What each weight format would do to each linear layer of a checkpoint, measured on a text: which tensors to keep higher.
///
/// Layers are looked at one by one, each on the inputs that it has in the float32 model, so that an error is the layer's
/// own and none that came down from above.
public struct Diagnosis: Sendable {
    /// What one format does to one layer.
    public struct FormatError: Sendable {
        /// As `--override` takes it: `int8`, `int4:g64`.
        public let format: String
        /// Of the weight in this format, dense.
        public let bytes: Int
        /// ‖Ŵ − W‖ / ‖W‖
        public let weights: Double
        /// ‖X(Ŵ − W)ᵀ‖ / ‖XWᵀ‖: float32 activations.
        public let outputOfWeights: Double
        /// ‖X̂Ŵᵀ − XWᵀ‖ / ‖XWᵀ‖: 8-bit activations as the engine makes them.
        public let output: Double
    }

    /// A linear layer, without its bias.
    public struct Layer: Sendable {
        /// The weight's name; a tied head's is the embedding's.
        public let name: String
        /// [n, k]
        public let shape: [Int]
        public let isHead: Bool
        /// ‖(X̂ − X)Wᵀ‖ / ‖XWᵀ‖: what 8-bit activations cost with exact weights.
        public let activations: Double
        /// In the order of `Diagnosis.formats`.
        public let errors: [FormatError]
    }

    /// Names of the formats, as `--override` takes them.
    public let formats: [String]
    /// In the order of the forward pass.
    public let layers: [Layer]
    public let windowCount: Int
    /// Tokens of a window.
    public let windowLength: Int
    public var tokenCount: Int { windowCount * windowLength }

    /// Every format that rounds weights, the most exact first.
    static let candidates: [TensorFormat] = WeightFormats.allCases.flatMap { weights in
        switch weights {
        case .float32: [TensorFormat]()
        case .int8: [TensorFormat(.int8)]
        case .int4: TensorFormat.groupSizes.sorted().map { TensorFormat(.int4, groupSize: $0) }
        }
    }

    /// - Parameters:
    ///   - checkpoint: a folder with weights and tokenizer.
    ///   - text: a file, of which windows of the model's context are taken, evenly spread.
    ///   - tokens: about how many tokens to look at; fewer where the text has fewer.
    ///   - threads: nil: what the machine allows.
    ///   - progress: called with the fraction that is done and the layer that comes next.
    /// - Throws: what is wrong with the checkpoint or the text, and `missing` where OpenBLAS is not installed.
    public init(
        checkpoint path: String, text: String, tokens: Int, threads: Int?,
        progress: (Double, String) -> Void = { _, _ in }
    ) throws(LatheError) {
        guard tokens >= 1 else {
            throw LatheError(.invalidRequest, "A diagnosis of \(tokens) tokens says nothing; give --tokens at least 1.")
        }
        let threads = try ThreadCount(requested: threads).count
        let reference = try Reference(checkpoint: Checkpoint(path: path, access: .read), threads: threads)
        let length = min(tokens, reference.configuration.contextLength)
        let windows = try CalibrationLoading.load(
            checkpoint: path, text: text, windows: tokens / length, length: length
        ).windows

        let work = reference.linearWeights.reduce(0) { $0 + $1.shape.reduce(1, *) }
        var done = 0
        var layers: [Layer] = []
        _ = try reference.run(windows) { layer throws(LatheError) in
            let weight = layer.weight
            progress(Double(done) / Double(work), weight.name)
            layers.append(try Layer(layer, reference, threads: threads))
            done += weight.shape.reduce(1, *)
            return nil
        }
        progress(1, "")
        self.layers = layers
        formats = Self.candidates.map(\.description)
        windowCount = windows.count
        windowLength = length
    }

    /// From this multiple of a format's median error on a layer stands out.
    public static let standoutFactor = 1.5

    /// The layers, those first whose output suffers most from rounding weights to the format at `index` of `formats`.
    public func worst(format index: Int) -> [Layer] {
        layers.sorted { $0.errors[index].outputOfWeights > $1.errors[index].outputOfWeights }
    }

    /// The layers with more than 1.5 times the median error, worst first: to keep them in a more exact format buys most.
    public func standouts(format index: Int) -> [Layer] {
        let worst = worst(format: index)
        let median = worst[worst.count / 2].errors[index].outputOfWeights
        return worst.filter { $0.errors[index].outputOfWeights > Self.standoutFactor * median }
    }
}

extension Diagnosis.Layer {
    fileprivate init(
        _ layer: Reference.LinearInput, _ reference: Reference, threads: Int
    ) throws(LatheError) {
        name = layer.weight.name
        shape = layer.weight.shape
        isHead = layer.weight.isHead
        let weight = try reference.weight(name)
        let probe = OutputErrorProbe(input: layer.input, weight: weight, reference: reference)
        activations = probe.activationError
        var errors: [Diagnosis.FormatError] = []
        for format in Diagnosis.candidates {
            let encoded = try EncodedMatrix(encoding: weight, as: format, name: name, threads: threads)
            let output = probe.errors(of: encoded.dequantized())
            errors.append(
                .init(
                    format: format.description, bytes: encoded.byteCount, weights: encoded.error.relative,
                    outputOfWeights: output.weights, output: output.output))
        }
        self.errors = errors
    }
}

extension EncodedMatrix {
    /// Of the tensors that hold it in a file.
    fileprivate var byteCount: Int {
        values.count + 4 * scales.count + 4 * columnSums.count + multipliers.count
    }
}
