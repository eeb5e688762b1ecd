/// A model as semantic operations over typed values: what is computed, not how.
///
/// A graph is in single-assignment form: each value is an entry point's input or the result of exactly one operation
/// that stands before all of its users. Fusing and placing operations is the engine's business, so faster kernels
/// never change files.
package struct Graph: Hashable, Sendable {
    /// The weights that operations name, in the order in which their tensors stand in the file.
    package var parameters: [Parameter]
    /// The type of every value; a value is an index into this array.
    package var values: [ValueType]
    /// Named computations over shared parameters and one KV cache: `decode` for a decoder-only model.
    package var entryPoints: [EntryPoint]

    package init(parameters: [Parameter] = [], values: [ValueType] = [], entryPoints: [EntryPoint] = []) {
        self.parameters = parameters
        self.values = values
        self.entryPoints = entryPoints
    }

    package func parameter(_ name: String) -> Parameter? { parameters.first { $0.name == name } }
    package func entryPoint(_ name: String) -> EntryPoint? { entryPoints.first { $0.name == name } }
}

/// The type of a value: elements over `[tokens, width]`, or over `[tokens]` where `width` is nil.
///
/// `tokens` is the one dimension that is known only when the graph runs.
package struct ValueType: Hashable, Sendable {
    package enum Element: String, Hashable, Sendable {
        case tokenID = "token_id"
        case float32 = "f32"
    }
    package var element: Element
    package var width: Int?

    package static let tokenIDs = ValueType(element: .tokenID, width: nil)
    package static func rows(_ width: Int) -> ValueType { ValueType(element: .float32, width: width) }
}

/// A weight: a vector `[n]` or a matrix `[n, k]` that maps k inputs to n outputs (a table of n rows of k elements).
package struct Parameter: Hashable, Sendable {
    package var name: String
    /// The true shape; the stored tensors are padded as `encoding` says.
    package var shape: [Int]
    package var encoding: WeightEncoding

    package init(name: String, shape: [Int], encoding: WeightEncoding) {
        self.name = name
        self.shape = shape
        self.encoding = encoding
    }
}

package struct EntryPoint: Hashable, Sendable {
    package var name: String
    package var inputs: [Int]
    package var outputs: [Int]
    package var operations: [Operation]
    /// Bits to which the inputs of the head, the last operation, are rounded where its weights are quantized: 8 or 16. All
    /// other linear operations round theirs to 8.
    package var headActivationBits: Int

    package init(
        name: String, inputs: [Int], outputs: [Int], operations: [Operation], headActivationBits: Int = 8
    ) {
        self.name = name
        self.inputs = inputs
        self.outputs = outputs
        self.operations = operations
        self.headActivationBits = headActivationBits
    }

    package static let headActivationBitsChoices = [8, 16]
}

/// One operation. `output` is the value it defines.
package struct Operation: Hashable, Sendable {
    package var kind: Kind
    package var inputs: [Int]
    package var output: Int

    package init(_ kind: Kind, inputs: [Int], output: Int) {
        self.kind = kind
        self.inputs = inputs
        self.output = output
    }

    package enum Kind: Hashable, Sendable {
        /// ids `[tokens]` → rows of `table` `[vocabulary, width]`, plus row *position* of `positions` `[context, width]`.
        case embed(table: String, positions: String?)
        /// (x − mean)/√(variance + epsilon)·scale + shift over each row.
        case layerNorm(scale: String, shift: String, epsilon: Float)
        /// x·Wᵀ + bias, W `[n, k]`.
        case linear(weight: String, bias: String?)
        /// Columns `start ..< start + width` of each row.
        case slice(start: Int, width: Int)
        /// Causal self-attention over this timeline's KV cache of `layer`. Inputs: query, key, value `[tokens, heads·d]`.
        case attention(layer: Int, heads: Int, headDimension: Int, scale: Float)
        /// Element by element.
        case activation(Activation)
        /// a + b, element by element.
        case add
    }
}

/// The non-linearities of the family, by the formula that Hugging Face uses under several names.
package enum Activation: String, Hashable, Sendable, CaseIterable {
    /// x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))): `gelu_new`, `gelu_fast`, `gelu_pytorch_tanh`.
    case geluTanh = "gelu_tanh"
    /// x·Φ(x): `gelu`.
    case geluErf = "gelu_erf"
    /// max(x, 0).
    case relu
}
