/// What pruning did, tensor by tensor.
public struct PruningReport: Sendable {
    public struct Tensor: Sendable {
        public let name: String
        /// `[n, k]`: n outputs of k inputs.
        public let shape: [Int]
        /// Weights.
        public var count: Int { shape.reduce(1, *) }
        /// Weights that were zero before.
        public let zerosBefore: Int
        /// Weights that are zero now.
        public let zeros: Int
        /// Of the scores that were kept, the share that balancing gave away; nil where nothing was balanced.
        public let balanceLoss: Double?

        public var sparsity: Double { PruningReport.share(zeros, of: count) }
        public var sparsityBefore: Double { PruningReport.share(zerosBefore, of: count) }
    }

    /// What the checkpoint says and was not followed, one sentence each.
    public let warnings: [String]
    /// The share of zeros that was asked for.
    public let sparsityAskedFor: Double
    /// `global`, `layer`, `row`, or `group` where a pattern N:M decides.
    public let scope: String
    /// The matrices that were pruned, in the order of the model.
    public let tensors: [Tensor]
    /// The matrices that were left as they are.
    public let excluded: [String]
    /// What was planned, and what was taken.
    public internal(set) var memory: ConversionMemory

    public var zeros: Int { tensors.reduce(0) { $0 + $1.zeros } }
    /// Of all pruned matrices.
    public var count: Int { tensors.reduce(0) { $0 + $1.count } }
    public var sparsity: Double { Self.share(zeros, of: count) }
    public var sparsityBefore: Double { Self.share(tensors.reduce(0) { $0 + $1.zerosBefore }, of: count) }

    private static func share(_ part: Int, of whole: Int) -> Double { whole == 0 ? 0 : Double(part) / Double(whole) }
}
