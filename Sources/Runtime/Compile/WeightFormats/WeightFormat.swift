import LatheFormat

/// Encodes one matrix of a checkpoint for the `.lathe` file.
///
/// A new format is one file beside this one, a case of `WeightEncoding`, and one line in `WeightFormats.all`.
protocol WeightFormat: Sendable {
    /// The name that `--weights` takes.
    static var name: String { get }
    static var encoding: WeightEncoding { get }
    /// Encodes `matrix` and hands the bytes of each part to `write`, in the order of `Parameter.parts`.
    ///
    /// - Returns: what the encoding cost.
    static func encode(
        _ matrix: MatrixReader, threads: Int, write: (ByteView) throws(LatheError) -> Void
    ) throws(LatheError) -> EncodingError
}

/// The formats that `lathe quantize --weights` offers.
public struct WeightFormats: Sendable, Hashable, CustomStringConvertible {
    static let all: [any WeightFormat.Type] = [Int8Weights.self, Float32Weights.self]

    let index: Int
    var format: any WeightFormat.Type { Self.all[index] }
    public var description: String { format.name }

    /// Per-output-channel symmetric int8; activations are quantized per token while the model runs.
    public static let int8 = WeightFormats(named: Int8Weights.name)!
    /// float32 throughout: the exact path, for reference.
    public static let float32 = WeightFormats(named: Float32Weights.name)!

    /// The format that `--weights` calls `name`, or nil.
    public init?(named name: String) {
        guard let index = Self.all.firstIndex(where: { $0.name == name }) else { return nil }
        self.index = index
    }

    public static var names: [String] { all.map { $0.name } }
}

/// Σ(w − ŵ)² against Σw², gathered while a matrix is encoded.
struct EncodingError {
    var squaredError = 0.0
    var squaredWeights = 0.0

    /// ‖w − ŵ‖ / ‖w‖; 0 for a matrix of zeros.
    var relative: Double { squaredWeights > 0 ? (squaredError / squaredWeights).squareRoot() : 0 }

    static func += (total: inout EncodingError, part: EncodingError) {
        total.squaredError += part.squaredError
        total.squaredWeights += part.squaredWeights
    }
}
