import LatheFormat

/// GPT-2 and its distilled and resized relatives (Radford et al. 2019), as Hugging Face stores them.
///
/// Block: x += proj(attention(norm₁(x))), x += proj(act(fc(norm₂(x)))). Linear weights are Conv1D, `[in, out]`.
struct GPT2: Architecture {
    static let modelTypes = ["gpt2"]

    static func define(_ checkpoint: Checkpoint) throws(LatheError) -> ModelDefinition {
        var builder = try GPT2(checkpoint)
        return try builder.build()
    }

    private let checkpoint: Checkpoint
    private let settings: Settings
    /// `transformer.` where the checkpoint was saved with its head, empty where it was saved without.
    private let prefix: String

    private var weights: [WeightSource] = []
    private var copies: [String: String] = [:]
    private var warnings: [String] = []
    private var used: Set<String> = []
    private var values: [ValueType] = [.tokenIDs]
    private var operations: [Operation] = []

    private init(_ checkpoint: Checkpoint) throws(LatheError) {
        self.checkpoint = checkpoint
        settings = try Settings(checkpoint.configuration, source: checkpoint.configurationPath)
        prefix = checkpoint.weights.names.contains { $0.hasPrefix("transformer.") } ? "transformer." : ""
    }

    private mutating func build() throws(LatheError) -> ModelDefinition {
        let width = settings.width
        try defineTokenTable()
        try rows("wpe.weight", shape: [settings.contextLength, width])
        var x = emit(.embed(table: "wte.weight", positions: "wpe.weight"), [0], width: width)
        for layer in 0..<settings.layerCount {
            x = try block(layer, x)
        }
        let normalized = try layerNorm("ln_f", x)
        let head = try defineHead()
        let logits = emit(.linear(weight: head, bias: nil), [normalized], width: settings.vocabularySize)
        try refuseUnusedTensors()
        let configuration = ModelConfiguration(
            architecture: "gpt2", vocabularySize: settings.vocabularySize, contextLength: settings.contextLength,
            width: width, layerCount: settings.layerCount, headCount: settings.headCount,
            headDimension: width / settings.headCount, beginningOfTextID: try specialTokenIDs("bos_token_id").first,
            endOfTextIDs: try specialTokenIDs("eos_token_id"))
        return ModelDefinition(
            configuration: configuration, values: values,
            entryPoints: [EntryPoint(name: "decode", inputs: [0], outputs: [logits], operations: operations)],
            weights: weights, copies: copies, warnings: warnings)
    }

    /// The ids under `key` that the vocabulary has. Others are common: a GPT-2 of another vocabulary is saved with
    /// Hugging Face's default of 50256 unless its author set both ids; such an id can never be sampled.
    private mutating func specialTokenIDs(_ key: String) throws(LatheError) -> [Int] {
        let stated = try checkpoint.tokenIDs(key)
        var ids: [Int] = []
        for id in stated ?? [Self.defaultSpecialTokenID] {
            if (0..<settings.vocabularySize).contains(id) {
                ids.append(id)
            } else if stated != nil {
                warnings.append(
                    "`\(key)` \(id) is outside the vocabulary of \(settings.vocabularySize) and is left out.")
            }
        }
        return ids
    }

    /// `<|endoftext|>` of the published vocabulary: what Hugging Face's configuration takes where a file says nothing.
    private static let defaultSpecialTokenID = 50256

    private mutating func block(_ layer: Int, _ input: Int) throws(LatheError) -> Int {
        let width = settings.width
        let name = "h.\(layer)"
        let headDimension = width / settings.headCount
        let normalized = try layerNorm("\(name).ln_1", input)
        let qkv = try linear("\(name).attn.c_attn", normalized, from: width, to: 3 * width)
        let query = emit(.slice(start: 0, width: width), [qkv], width: width)
        let key = emit(.slice(start: width, width: width), [qkv], width: width)
        let value = emit(.slice(start: 2 * width, width: width), [qkv], width: width)
        var scale: Float = settings.scalesAttention ? 1 / Float(headDimension).squareRoot() : 1
        if settings.scalesAttentionByInverseLayer { scale /= Float(layer + 1) }
        let attended = emit(
            .attention(layer: layer, heads: settings.headCount, headDimension: headDimension, scale: scale),
            [query, key, value], width: width)
        let projected = try linear("\(name).attn.c_proj", attended, from: width, to: width)
        let middle = emit(.add, [projected, input], width: width)

        let normalized2 = try layerNorm("\(name).ln_2", middle)
        let inner = try linear("\(name).mlp.c_fc", normalized2, from: width, to: settings.innerWidth)
        let activated = emit(.activation(settings.activation), [inner], width: settings.innerWidth)
        let projected2 = try linear("\(name).mlp.c_proj", activated, from: settings.innerWidth, to: width)
        return emit(.add, [projected2, middle], width: width)
    }

    private mutating func defineTokenTable() throws(LatheError) {
        let name = "wte.weight"
        // Writers that store a shared tensor once may keep the head's name for it.
        let isUnderHead =
            settings.tiesHead && checkpoint.weights[prefix + name] == nil && checkpoint.weights[Self.headName] != nil
        weights.append(
            try source(
                name, tensor: isUnderHead ? Self.headName : prefix + name,
                shape: [settings.vocabularySize, settings.width], role: .matrix, isTransposed: false))
    }

    private static let headName = "lm_head.weight"

    private mutating func defineHead() throws(LatheError) -> String {
        let name = Self.headName
        if settings.tiesHead {
            guard try hasHeadOfItsOwn() else {
                if used.insert(name).inserted && checkpoint.weights[name] != nil {
                    copies[name] = prefix + "wte.weight"
                }
                return "wte.weight"
            }
            warnings.append(
                """
                `tie_word_embeddings` is true, but `\(name)` and `\(prefix)wte.weight` hold different numbers; both are \
                kept, as transformers 5 does.
                """)
        }
        weights.append(
            try source(
                name, tensor: name, shape: [settings.vocabularySize, settings.width], role: .matrix,
                isTransposed: false))
        return name
    }

    /// Whether a tied checkpoint carries a head with other bytes than the embedding's. Most carry none, or a copy.
    private func hasHeadOfItsOwn() throws(LatheError) -> Bool {
        guard let head = checkpoint.weights[Self.headName], let table = checkpoint.weights[prefix + "wte.weight"] else {
            return false
        }
        guard head.tensor.shape == table.tensor.shape, head.tensor.dtype == table.tensor.dtype else { return true }
        let window = 1 << 20
        for start in stride(from: 0, to: head.tensor.byteCount, by: window) {
            let range = start..<min(start + window, head.tensor.byteCount)
            let part = try head.file.bytes(of: head.tensor, range)
            if !part.hasSameBytes(as: try table.file.bytes(of: table.tensor, range)) { return true }
        }
        return false
    }

    // MARK: Emitting operations

    private mutating func emit(_ kind: Operation.Kind, _ inputs: [Int], width: Int) -> Int {
        values.append(.rows(width))
        operations.append(Operation(kind, inputs: inputs, output: values.count - 1))
        return values.count - 1
    }

    private mutating func layerNorm(_ name: String, _ input: Int) throws(LatheError) -> Int {
        try rows("\(name).weight", shape: [settings.width])
        try rows("\(name).bias", shape: [settings.width])
        return emit(
            .layerNorm(scale: "\(name).weight", shift: "\(name).bias", epsilon: settings.epsilon), [input],
            width: settings.width)
    }

    private mutating func linear(_ name: String, _ input: Int, from: Int, to: Int) throws(LatheError) -> Int {
        try matrix("\(name).weight", shape: [to, from])
        try rows("\(name).bias", shape: [to])
        return emit(.linear(weight: "\(name).weight", bias: "\(name).bias"), [input], width: to)
    }

    // MARK: Resolving tensors

    private mutating func rows(_ name: String, shape: [Int]) throws(LatheError) {
        weights.append(
            try source(name, tensor: prefix + name, shape: shape, role: .rows, isTransposed: false))
    }

    private mutating func matrix(_ name: String, shape: [Int]) throws(LatheError) {
        weights.append(
            try source(name, tensor: prefix + name, shape: shape, role: .matrix, isTransposed: true))
    }

    private mutating func source(
        _ name: String, tensor: String, shape: [Int], role: WeightSource.Role, isTransposed: Bool
    ) throws(LatheError) -> WeightSource {
        guard let entry = checkpoint.weights[tensor] else {
            throw LatheError(.missing, "\(checkpoint.path): the tensor `\(tensor)` is missing.")
        }
        let expected = isTransposed ? shape.reversed() : shape
        guard entry.tensor.shape == expected else {
            throw LatheError(
                .corrupt,
                """
                \(entry.file.path): `\(tensor)` has the shape \(entry.tensor.shape); by config.json it should be \
                \(expected).
                """)
        }
        used.insert(tensor)
        return WeightSource(name: name, shape: shape, role: role, entry: entry, isTransposed: isTransposed)
    }

    private func refuseUnusedTensors() throws(LatheError) {
        for name in checkpoint.weights.names.sorted() where !used.contains(name) {
            // Older checkpoints carry the causal mask as buffers.
            let isMask =
                name.hasPrefix("\(prefix)h.")
                && (name.hasSuffix(".attn.bias") || name.hasSuffix(".attn.masked_bias"))
            if !isMask {
                throw LatheError(
                    .unsupported,
                    "\(checkpoint.path): the tensor `\(name)` is no part of a GPT-2 with this configuration.")
            }
        }
    }
}
