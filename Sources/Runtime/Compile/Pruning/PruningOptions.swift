public import LatheFormat

/// What `Pruner` is asked for.
public struct PruningOptions: Sendable {
    /// Whose weights compete for the places that are kept.
    public enum Scope: String, Sendable, Hashable, CaseIterable {
        /// All pruned matrices together: one threshold.
        case global
        /// Each matrix has the sparsity asked for.
        case layer
        /// Each output of each matrix has it.
        case row
    }

    /// How much a weight matters.
    public enum Criterion: String, Sendable, Hashable, CaseIterable {
        /// |w|.
        case magnitude
        /// |w|·‖x‖₂ with x the weight's input over a calibration text (Sun et al. 2023, arXiv 2306.11695).
        case wanda
    }

    /// Where zeros may stand.
    public enum Pattern: Sendable, Hashable, CustomStringConvertible {
        case unstructured
        /// Of each `size` successive inputs of an output, at most `kept` weights are not zero: 2:4 and its like.
        case group(kept: Int, size: Int)

        /// `unstructured`, or `N:M` with M a power of two up to 32 and 0 < N < M.
        public init(named name: String) throws(LatheError) {
            if name == "unstructured" {
                self = .unstructured
                return
            }
            let parts = name.split(separator: ":", omittingEmptySubsequences: false)
            let numbers = parts.compactMap { part in part.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 } ? Int(part) : nil
            }
            guard parts.count == 2, numbers.count == 2 else {
                throw LatheError(
                    .invalidRequest,
                    "The pattern \(quoted(name)) is neither `unstructured` nor of the form N:M, as 2:4.")
            }
            let (kept, size) = (numbers[0], numbers[1])
            guard [2, 4, 8, 16, 32].contains(size), (1..<size).contains(kept) else {
                throw LatheError(
                    .invalidRequest,
                    "The pattern \(quoted(name)) is not possible: of N:M, M is 2, 4, 8, 16 or 32, and N from 1 to M − 1."
                )
            }
            self = .group(kept: kept, size: size)
        }

        public var description: String {
            switch self {
            case .unstructured: "unstructured"
            case .group(let kept, let size): "\(kept):\(size)"
            }
        }
    }

    /// The share of zeros, from 0 up to but not including 1; may be nil where the pattern says it.
    public var sparsity: Double?
    /// nil is `layer`, and `row` for wanda, which its authors found to be better. A pattern N:M makes no use of it.
    public var scope: Scope?
    public var criterion: Criterion
    public var pattern: Pattern
    /// Matrices to leave as they are (`TensorPattern`).
    public var excluded: [String]
    /// Whether embeddings and head are pruned too. An embedding that is no head has no product, so wanda takes its
    /// magnitude.
    public var includesEmbeddings: Bool
    /// Whether the two halves of each 16 × 8 block get as many zeros each, which int4 storage of sparse weights needs to be
    /// at its smallest (docs/ARITHMETIC.md). Counts are then exact to within one weight a matrix.
    public var balancesPairs: Bool

    public init(
        sparsity: Double? = nil, scope: Scope? = nil, criterion: Criterion = .magnitude,
        pattern: Pattern = .unstructured, excluded: [String] = [], includesEmbeddings: Bool = false,
        balancesPairs: Bool = false
    ) {
        self.sparsity = sparsity
        self.scope = scope
        self.criterion = criterion
        self.pattern = pattern
        self.excluded = excluded
        self.includesEmbeddings = includesEmbeddings
        self.balancesPairs = balancesPairs
    }
}

extension PruningOptions {
    var resolvedScope: Scope { scope ?? (criterion == .wanda ? .row : .layer) }

    /// Checks the options against each other.
    /// - Returns: the sparsity asked for.
    func resolvedSparsity() throws(LatheError) -> Double {
        if let sparsity {
            guard sparsity >= 0 && sparsity < 1 else {
                throw LatheError(
                    .invalidRequest,
                    "The sparsity is \(sparsity); it must be at least 0 and below 1: 0.5 makes half of the weights zero."
                )
            }
        }
        if criterion == .wanda && resolvedScope == .global {
            throw LatheError(
                .invalidRequest,
                "Wanda decides each layer on what the pruned layers before it give, so it has no global threshold; use the "
                    + "scope row or layer.")
        }
        switch pattern {
        case .unstructured:
            guard let sparsity else {
                throw LatheError(.invalidRequest, "No sparsity was given; 0.5 makes half of the weights zero.")
            }
            return sparsity
        case .group(let kept, let size):
            let share = 1 - Double(kept) / Double(size)
            if let sparsity, sparsity != share {
                throw LatheError(
                    .invalidRequest,
                    "The pattern \(pattern) makes the sparsity \(share), and \(sparsity) was asked for; leave it away.")
            }
            if balancesPairs && size > 4 {
                throw LatheError(
                    .invalidRequest,
                    "Groups of \(size) reach over both halves of a block, so balancing the halves would break the pattern "
                        + "\(pattern); balance with groups of at most 4, which are balanced as they are, or unstructured."
                )
            }
            return share
        }
    }
}
