extension GPT2 {
    /// A tensor as a checkpoint of this architecture stores it, for writing one.
    struct TensorShape {
        enum Role {
            /// A normalization's scale, around 1.
            case one
            case plain
            /// Writes into the residual stream, where trained models have outlier channels (the last dimension).
            case residual
        }
        let name: String
        let shape: [Int]
        let role: Role
    }

    /// Every tensor, in the order of the forward pass, under the names that Hugging Face saves.
    static func tensorShapes(_ settings: Settings) -> [TensorShape] {
        let width = settings.width
        var tensors: [TensorShape] = [
            TensorShape(name: "transformer.wte.weight", shape: [settings.vocabularySize, width], role: .residual),
            TensorShape(name: "transformer.wpe.weight", shape: [settings.contextLength, width], role: .residual),
        ]
        func norm(_ name: String) {
            tensors.append(TensorShape(name: "transformer.\(name).weight", shape: [width], role: .one))
            tensors.append(TensorShape(name: "transformer.\(name).bias", shape: [width], role: .plain))
        }
        func linear(_ name: String, from: Int, to: Int, role: TensorShape.Role = .plain) {
            tensors.append(TensorShape(name: "transformer.\(name).weight", shape: [from, to], role: role))
            tensors.append(TensorShape(name: "transformer.\(name).bias", shape: [to], role: role))
        }
        for layer in 0..<settings.layerCount {
            norm("h.\(layer).ln_1")
            linear("h.\(layer).attn.c_attn", from: width, to: 3 * width)
            linear("h.\(layer).attn.c_proj", from: width, to: width, role: .residual)
            norm("h.\(layer).ln_2")
            linear("h.\(layer).mlp.c_fc", from: width, to: settings.innerWidth)
            linear("h.\(layer).mlp.c_proj", from: settings.innerWidth, to: width, role: .residual)
        }
        norm("ln_f")
        if !settings.tiesHead {
            tensors.append(
                TensorShape(name: "lm_head.weight", shape: [settings.vocabularySize, width], role: .plain))
        }
        return tensors
    }
}
