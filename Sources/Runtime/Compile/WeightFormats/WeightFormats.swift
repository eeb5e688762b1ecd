/// The numbers that the weights of matrices are stored in: what `lathe quantize --weights` takes.
public enum WeightFormats: String, Sendable, Hashable, CaseIterable, CustomStringConvertible {
    /// Per-output-channel symmetric int8; activations are quantized per token while the model runs.
    case int8
    /// int4 in groups of inputs with integer multipliers, an encoding of int8.
    case int4
    /// float32 throughout: the exact path, for reference.
    case float32 = "f32"

    public var description: String { rawValue }

    /// The format that `--weights` calls `name`, or nil.
    public init?(named name: String) { self.init(rawValue: name) }

    public static var names: [String] { allCases.map(\.rawValue) }
}
