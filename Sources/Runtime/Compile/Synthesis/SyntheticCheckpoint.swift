public import LatheFormat

/// Writes checkpoints of random weights in Hugging Face layout: right in shape and scale, for benchmarks and limits.
///
/// Weights are normal with standard deviation 0.02, as GPT-2's initialization; one channel in 128 is an outlier, six
/// times as wide in the weights that write to the residual stream, since trained GPT-2s have such channels. Written
/// streaming: no more than a slice of one tensor is in memory.
public struct SyntheticCheckpoint: Sendable {
    /// config.json, as it will be written.
    private let configuration: JSONObject
    private let settings: GPT2.Settings
    /// The preset, or the path of the configuration.
    private let source: String
    public var isHalfPrecision: Bool
    public var seed: UInt64

    /// Sizes published with GPT-2 (Radford et al. 2019) and distilgpt2.
    private static let presets: [(name: String, layers: Int, width: Int, heads: Int)] = [
        ("distilgpt2", 6, 768, 12), ("gpt2", 12, 768, 12), ("gpt2-medium", 24, 1024, 16),
        ("gpt2-large", 36, 1280, 20), ("gpt2-xl", 48, 1600, 25),
    ]

    public static var presetNames: [String] { presets.map(\.name) }

    /// - Parameter name: a preset, or the path of a config.json with `model_type` gpt2.
    public init(named name: String, isHalfPrecision: Bool = false, seed: UInt64 = 0) throws(LatheError) {
        if let preset = Self.presets.first(where: { $0.name == name }) {
            configuration = JSONObject([
                ("architectures", .array(["GPT2LMHeadModel"])), ("model_type", "gpt2"),
                ("activation_function", "gelu_new"),
                ("vocab_size", 50257), ("n_positions", 1024), ("n_ctx", 1024), ("n_embd", .number(preset.width)),
                ("n_layer", .number(preset.layers)), ("n_head", .number(preset.heads)),
                ("layer_norm_epsilon", 1e-5), ("bos_token_id", 50256), ("eos_token_id", 50256),
                ("tie_word_embeddings", true), ("torch_dtype", .string(isHalfPrecision ? "float16" : "float32")),
            ])
        } else {
            guard Files.exists(name) else {
                throw LatheError(
                    .missing,
                    "`\(name)` is neither a file nor one of \(Self.presetNames.joined(separator: ", ")).")
            }
            configuration = try Checkpoint.readJSON(name).object(at: name)
            let type = try configuration.string("model_type", in: name)
            guard GPT2.modelTypes.contains(type) else {
                throw LatheError(.unsupported, "\(name): `model_type` is `\(type)`; only gpt2 can be synthesized.")
            }
        }
        settings = try GPT2.Settings(configuration, source: name)
        try Self.checkSize(settings, source: name)
        self.isHalfPrecision = isHalfPrecision
        self.seed = seed
        source = name
    }

    /// Refuses what is too large for any disk, before it is laid out: products of sizes from a file may overflow.
    private static func checkSize(_ settings: GPT2.Settings, source: String) throws(LatheError) {
        let sizes = [settings.vocabularySize, settings.contextLength, 4 * settings.width, settings.innerWidth]
        // The largest tensor has these sides at most; a layer has four matrices and a dozen vectors.
        let bytes = 64 * Double(settings.layerCount + 4) * Double(sizes.max()!) * Double(settings.width)
        guard bytes <= 1e13 else {
            throw LatheError(.unsupported, "\(source): a checkpoint of these sizes would take more than 10 TB.")
        }
    }

    /// Writes config.json and model.safetensors into `folder`, which is made if it does not exist; with the tokenizer
    /// files of `tokenizerFolder`, if given.
    public func write(
        to folder: String, tokenizerFolder: String? = nil, progress: (Compiler.Progress) -> Void = { _ in }
    ) throws(LatheError) {
        // Synthesizing into the folder of the configuration would replace the weights that belong to it.
        try checkOutput("\(folder)/config.json", isNoneOf: [source])
        try Files.createDirectory(folder)
        let tensors = GPT2.tensorShapes(settings)
        let writer = try SafetensorsWriter(
            .path("\(folder)/model.safetensors"), metadata: [("format", "pt")],
            tensors: tensors.map {
                TensorDeclaration(name: $0.name, dtype: isHalfPrecision ? .f16 : .f32, shape: $0.shape)
            })
        let elementBytes = isHalfPrecision ? 2 : 4
        let total = tensors.reduce(0) { $0 + $1.shape.reduce(elementBytes, *) }
        var completed = 0
        for (index, tensor) in tensors.enumerated() {
            progress(.init(tensor: tensor.name, completedBytes: completed, totalBytes: total))
            var random = NormalNumbers(seed: seed &* 0x1_0000_0001 &+ UInt64(index))
            let count = tensor.shape.reduce(1, *)
            let width = tensor.shape[tensor.shape.count - 1]
            for start in stride(from: 0, to: count, by: Self.sliceElements) {
                let slice = start..<min(start + Self.sliceElements, count)
                try writer.write(fill(slice, of: tensor, width: width, random: &random))
            }
            completed += count * elementBytes
        }
        try writer.finish()
        progress(.init(tensor: "", completedBytes: total, totalBytes: total))
        try writeFile("\(folder)/config.json", JSON.object(configuration).serializedBytes())
        if let tokenizerFolder { try copyTokenizer(from: tokenizerFolder, to: folder) }
    }

    private static let sliceElements = 1 << 20
    private static let standardDeviation: Float = 0.02
    private static let outlierPeriod = 128
    private static let outlierFactor: Float = 6

    private func fill(
        _ elements: Range<Int>, of tensor: GPT2.TensorShape, width: Int, random: inout NormalNumbers
    ) -> ByteView {
        let buffer = AlignedBuffer(byteCount: elements.count * (isHalfPrecision ? 2 : 4))
        func value(_ element: Int, _ random: inout NormalNumbers) -> Float {
            let noise = random.next() * Self.standardDeviation
            switch tensor.role {
            case .one: return 1 + noise
            case .plain: return noise
            case .residual:
                let isOutlier = (element % width) % Self.outlierPeriod == Self.outlierPeriod / 2
                return isOutlier ? noise * Self.outlierFactor : noise
            }
        }
        if isHalfPrecision {
            buffer.withMutableSpan(of: UInt16.self) { span in
                for (index, element) in elements.enumerated() {
                    span[index] = Float16(value(element, &random)).bitPattern
                }
            }
        } else {
            buffer.withMutableSpan(of: Float.self) { span in
                for (index, element) in elements.enumerated() { span[index] = value(element, &random) }
            }
        }
        return buffer.view
    }

    private func copyTokenizer(from source: String, to folder: String) throws(LatheError) {
        let names = [
            "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
            "added_tokens.json",
        ]
        var copied = 0
        for name in names where Files.exists("\(source)/\(name)") {
            try writeFile("\(folder)/\(name)", try Files.read("\(source)/\(name)").array())
            copied += 1
        }
        guard copied > 0 else { throw LatheError(.missing, "\(source) holds no tokenizer files.") }
    }

    private func writeFile(_ path: String, _ bytes: [UInt8]) throws(LatheError) {
        let file = try AtomicFile(.path(path))
        try file.append(ByteView(copying: bytes))
        _ = try file.finish()
    }
}

/// Normally distributed numbers: the sum of twelve uniform ones, less six (variance 1, range ±6). Exact arithmetic on
/// integers until the last step, so that a seed gives the same checkpoint everywhere.
private struct NormalNumbers {
    private var uniform: SplitMix64

    init(seed: UInt64) { uniform = SplitMix64(seed: seed) }

    mutating func next() -> Float {
        // Three draws give twelve 16-bit uniforms.
        var sum = 0
        for _ in 0..<3 {
            let z = uniform.next()
            sum += Int(z & 0xFFFF) + Int(z >> 16 & 0xFFFF) + Int(z >> 32 & 0xFFFF) + Int(z >> 48)
        }
        return Float(sum - 6 * 0xFFFF) / 65536
    }
}
