package import LatheFormat

/// Turns a checkpoint of one family into a graph and says where each parameter comes from.
///
/// A new architecture is one file beside this one and one line in `Architectures.all`.
protocol Architecture: Sendable {
    /// The `model_type` values of config.json that this architecture reads.
    static var modelTypes: [String] { get }
    /// Reads the configuration and resolves every tensor; an unknown or missing field or tensor is an error that names it.
    static func define(_ checkpoint: Checkpoint) throws(LatheError) -> ModelDefinition
}

enum Architectures {
    static let all: [any Architecture.Type] = [GPT2.self]

    static func define(_ checkpoint: Checkpoint) throws(LatheError) -> ModelDefinition {
        let type = try checkpoint.configuration.string("model_type", in: checkpoint.configurationPath)
        for architecture in all where architecture.modelTypes.contains(type) {
            return try architecture.define(checkpoint)
        }
        let known = all.flatMap { $0.modelTypes }.joined(separator: ", ")
        throw LatheError(
            .unsupported,
            "\(checkpoint.configurationPath): `model_type` is `\(type)`, which is not supported; supported: \(known).")
    }
}

extension Checkpoint {
    /// What the checkpoint's model is, as a file made of it would say.
    package func modelConfiguration() throws(LatheError) -> ModelConfiguration {
        try Architectures.define(self).configuration
    }
}

/// A model before its weights are encoded.
struct ModelDefinition {
    var configuration: ModelConfiguration
    /// Entry points and values; parameters stand in `weights` until a format is chosen for each.
    var values: [ValueType]
    var entryPoints: [EntryPoint]
    var weights: [WeightSource]
    /// Tensors that repeat another one's bytes under a second name, and that one's name in the checkpoint.
    var copies: [String: String] = [:]
    /// What the checkpoint says and is not followed, one sentence each.
    var warnings: [String] = []
}

/// Where a parameter's numbers are in the checkpoint.
struct WeightSource {
    enum Role {
        /// Added or multiplied element by element, or a position table: kept as float32 rows.
        case rows
        /// The operand of a product, or an embedding table: encoded in the chosen weight format.
        case matrix
    }

    var name: String
    /// The true shape `[n]` or `[n, k]`.
    var shape: [Int]
    var role: Role
    var entry: CheckpointWeights.Entry
    /// The checkpoint stores `[k, n]` (GPT-2's Conv1D).
    var isTransposed: Bool
}
