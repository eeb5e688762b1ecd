public import LatheFormat

/// A validated `.lathe` file, its weights used in place.
public final class Model: Sendable {
    public let configuration: ModelConfiguration
    /// nil for a model that was converted without one; token ids then stand for text.
    public let tokenizer: Tokenizer?
    package let file: ModelFile
    /// How the file became memory.
    public let placement: WeightPlacement
    /// Whether the file exists in this process alone, as one that was converted a moment ago: a copy of its weights would take
    /// their memory twice.
    package let isConvertedInMemory: Bool

    /// Opens the file at `path` and checks all of it: header, graph, shapes, scales and, unless `verify` is false, every
    /// tensor's checksum (which reads the whole file once).
    ///
    /// Should the file be truncated by someone while it is mapped, the process receives SIGBUS; the library installs no
    /// signal handler. A copy is immune.
    public static func open(
        _ path: String, verify: Bool = true, placement: WeightPlacement = .map
    ) throws(LatheError) -> Model {
        try Model(
            file: try ModelFile.open(path: path, access: placement.access, verify: verify), placement: placement)
    }

    package init(
        file: ModelFile, placement: WeightPlacement = .map, isConvertedInMemory: Bool = false
    ) throws(LatheError) {
        self.file = file
        self.placement = placement
        self.isConvertedInMemory = isConvertedInMemory
        configuration = file.configuration
        tokenizer = if let tables = file.tokenizer { try Tokenizer(tables: tables, source: file.path) } else { nil }
        if let tokenizer, tokenizer.vocabularySize > configuration.vocabularySize {
            throw LatheError(
                .corrupt,
                """
                \(file.path): the tokenizer has ids up to \(tokenizer.vocabularySize - 1), the model only \
                \(configuration.vocabularySize) of them.
                """)
        }
    }
}
