public import LatheFormat

/// Whether zeros among the weights are left out of the file.
public enum SparseStorage: String, Sendable, Hashable, CaseIterable {
    /// Where the matrix takes fewer bytes without them: from about 12.5 % zeros on for int8, 25 % for int4.
    case auto
    case on
    case off
}

/// How one matrix is stored, as an override says it: `int8`, `int4:g32`, `int8:sparse`, `int4:g64:dense`, `f32`.
///
/// What the text leaves open, the recipe decides.
public struct TensorFormat: Sendable, Hashable, CustomStringConvertible {
    public var weights: WeightFormats
    /// Inputs of an output that share a multiplier; nil: int8 and float32, or what the recipe says for int4.
    public var groupSize: Int?
    /// nil: what the recipe says.
    public var sparse: SparseStorage?

    /// Traps on a group size where there are no groups, on one that does not exist, and on sparse float32.
    public init(_ weights: WeightFormats, groupSize: Int? = nil, sparse: SparseStorage? = nil) {
        precondition(groupSize == nil || weights == .int4, "only int4 has groups")
        precondition(groupSize.map(QuantizedPanels.groupSizes.contains) ?? true, "there are no such groups")
        precondition(sparse == nil || sparse == .off || weights != .float32, "float32 is stored dense")
        self.weights = weights
        self.groupSize = groupSize
        self.sparse = sparse
    }

    public var description: String {
        var parts = [weights.description]
        if let groupSize { parts.append("g\(groupSize)") }
        if let sparse { parts.append(Self.words.first { $0.storage == sparse }!.word) }
        return parts.joined(separator: ":")
    }

    private static let words: [(word: String, storage: SparseStorage)] = [
        ("dense", .off), ("sparse", .on), ("auto", .auto),
    ]

    /// - Throws: what is wrong with the text, and what it may be.
    public init(parsing text: String) throws(LatheError) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard let weights = WeightFormats(named: parts[0]) else {
            throw LatheError(
                .invalidRequest,
                "\(quoted(text)) is no format: it begins with \(quoted(parts[0])) instead of one of "
                    + "\(WeightFormats.names.joined(separator: ", ")).")
        }
        self.weights = weights
        for part in parts.dropFirst() {
            if let word = Self.words.first(where: { $0.word == part }), sparse == nil {
                guard weights != .float32 || word.storage == .off else {
                    throw LatheError(.invalidRequest, "\(quoted(text)) is no format: f32 is stored dense.")
                }
                sparse = word.storage
            } else if weights == .int4, groupSize == nil, let size = Self.groupSizes.first(where: { "g\($0)" == part })
            {
                groupSize = size
            } else {
                let groups = Self.groupSizes.map { "g\($0)" } + Self.words.map(\.word)
                let choices = weights == .int4 ? groups : Array(groups.suffix(Self.words.count))
                throw LatheError(
                    .invalidRequest,
                    "\(quoted(text)) is no format: behind \(weights) may stand \(choices.joined(separator: ", ")), each kind "
                        + "once, not \(quoted(part)).")
            }
        }
    }

    /// Inputs that may share a multiplier in int4.
    public static var groupSizes: [Int] { QuantizedPanels.groupSizes }
}
