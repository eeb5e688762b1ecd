import LatheFormat

extension GPT2 {
    /// What config.json says, under Hugging Face's names; absent optional fields take Hugging Face's defaults.
    struct Settings {
        let vocabularySize: Int
        let contextLength: Int
        let width: Int
        let layerCount: Int
        let headCount: Int
        let innerWidth: Int
        let epsilon: Float
        let activation: Activation
        let scalesAttention: Bool
        let scalesAttentionByInverseLayer: Bool
        let tiesHead: Bool

        /// Far above any model of the family; sums and products of two sizes stay within Int.
        private static let maximumSize = 1 << 24
        private static let maximumLayers = 10_000

        /// - Parameter source: the file that `object` came from, for messages.
        init(_ object: JSONObject, source: String) throws(LatheError) {
            // The names that Hugging Face's attribute map accepts in place of GPT-2's own; older files say n_ctx.
            func size(_ name: String, or others: String...) throws(LatheError) -> Int {
                let key = object.valueIfPresent(name) == nil ? others.first { object.valueIfPresent($0) != nil } : name
                let value = try object.int(key ?? name, in: source)
                guard (1...Self.maximumSize).contains(value) else {
                    throw LatheError(
                        .corrupt, "\(source): `\(key ?? name)` is \(value); it must be from 1 to \(Self.maximumSize).")
                }
                return value
            }
            vocabularySize = try size("vocab_size")
            contextLength = try size("n_positions", or: "max_position_embeddings", "n_ctx")
            width = try size("n_embd", or: "hidden_size")
            layerCount = try size("n_layer", or: "num_hidden_layers")
            guard layerCount <= Self.maximumLayers else {
                throw LatheError(
                    .corrupt, "\(source): `n_layer` is \(layerCount); at most \(Self.maximumLayers) are possible.")
            }
            headCount = try size("n_head", or: "num_attention_heads")
            guard width % headCount == 0 else {
                throw LatheError(
                    .corrupt, "\(source): `n_head` is \(headCount), which does not divide `n_embd` (\(width)).")
            }
            innerWidth = object.valueIfPresent("n_inner") == nil ? 4 * width : try size("n_inner")
            epsilon = Float(try object.doubleIfPresent("layer_norm_epsilon", in: source) ?? 1e-5)
            guard epsilon >= 0 && epsilon.isFinite else {
                throw LatheError(.corrupt, "\(source): `layer_norm_epsilon` is \(epsilon).")
            }
            let name = try object.stringIfPresent("activation_function", in: source) ?? "gelu_new"
            guard let activation = Self.activations[name] else {
                let known = Self.activations.keys.sorted().joined(separator: ", ")
                throw LatheError(
                    .unsupported, "\(source): `activation_function` is `\(name)`; supported: \(known).")
            }
            self.activation = activation
            scalesAttention = try object.boolIfPresent("scale_attn_weights", in: source) ?? true
            scalesAttentionByInverseLayer =
                try object.boolIfPresent("scale_attn_by_inverse_layer_idx", in: source) ?? false
            tiesHead = try object.boolIfPresent("tie_word_embeddings", in: source) ?? true
            try Self.refuseUnsupported(object, source: source)
        }

        /// `hidden_act` names of Hugging Face and the formula behind each.
        private static let activations: [String: Activation] = [
            "gelu_new": .geluTanh, "gelu_fast": .geluTanh, "gelu_pytorch_tanh": .geluTanh,
            "gelu": .geluErf, "gelu_python": .geluErf,
            "relu": .relu,
        ]

        /// Fields that change what the forward pass computes, with values that this architecture does not compute.
        private static func refuseUnsupported(_ object: JSONObject, source: String) throws(LatheError) {
            if try object.boolIfPresent("add_cross_attention", in: source) == true {
                throw LatheError(.unsupported, "\(source): `add_cross_attention` is true; only decoders are supported.")
            }
            switch object["quantization_config"] {
            case nil, .null: break
            default:
                throw LatheError(
                    .unsupported,
                    "\(source): `quantization_config` says that the weights are already quantized; start from the "
                        + "float checkpoint.")
            }
            if case .object(let pruned)? = object["pruned_heads"], !pruned.isEmpty {
                throw LatheError(
                    .unsupported, "\(source): `pruned_heads` is not empty; remove the heads' weights first.")
            }
        }
    }
}
