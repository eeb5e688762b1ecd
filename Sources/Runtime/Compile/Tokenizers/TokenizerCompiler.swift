package import LatheFormat

/// Reads the tokenizer of a checkpoint folder and lays it out as flat tables.
package enum TokenizerCompiler {
    /// - Returns: nil if the folder holds no tokenizer at all.
    /// - Throws: if it holds one that is damaged, or of a kind or with an option that this version does not do: byte-level
    ///   BPE as GPT-2 has it, in `tokenizer.json` or in `vocab.json` and `merges.txt`.
    ///
    /// - Parameter warn: called with what the files say and is not followed, one sentence each.
    package static func compile(
        folder: String, warn: (String) -> Void = { _ in }
    ) throws(LatheError) -> TokenizerTables? {
        let files = TokenizerFiles(folder: folder)
        let description: TokenizerDescription
        if let json = try files.object("tokenizer.json") {
            description = try TokenizerJSON(json, source: files.path("tokenizer.json")).description()
        } else if files.exists("vocab.json") || files.exists("merges.txt") {
            description = try VocabularyAndMerges(files: files).description()
        } else {
            for name in ["spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "vocab.txt"]
            where files.exists(name) {
                throw LatheError(
                    .unsupported,
                    "\(files.path(name)): only byte-level BPE tokenizers are supported; save the tokenizer as tokenizer.json "
                        + "if it is one.")
            }
            return nil
        }
        let builder = try TokenizerTableBuilder(description, limit: try vocabularyLimit(files))
        for warning in description.warnings + builder.warnings { warn(warning) }
        return try builder.tables()
    }

    /// Bytes that `compile` takes at its peak, by the size of what it reads: JSON as values, and the tables' making. On
    /// GPT-2's own tokenizer 14 to 19 times were measured; 0 where there is none.
    static func memoryByteCount(folder: String) -> Int {
        let files = TokenizerFiles(folder: folder)
        func size(_ name: String) -> Int { (try? InputFile.open(path: files.path(name)))?.byteCount ?? 0 }
        let json = size("tokenizer.json")
        return 20 * (json > 0 ? json : size("vocab.json") + size("merges.txt"))
    }

    /// The rows of the model's embedding, beyond which no id can be fed to it; nil if config.json does not say.
    private static func vocabularyLimit(_ files: TokenizerFiles) throws(LatheError) -> Int? {
        guard let configuration = try files.object("config.json") else { return nil }
        return try configuration.intIfPresent("vocab_size", in: files.path("config.json"))
    }
}

/// The files of a checkpoint folder, read whole.
struct TokenizerFiles {
    let folder: String

    /// The largest published tokenizers take some 30 MB.
    private static let maximumSize = 256 << 20

    func path(_ name: String) -> String { folder.hasSuffix("/") ? folder + name : folder + "/" + name }

    func exists(_ name: String) -> Bool { Files.exists(path(name)) }

    /// - Returns: nil if there is no such file.
    func bytes(_ name: String) throws(LatheError) -> [UInt8]? {
        guard exists(name) else { return nil }
        let bytes = try InputFile.open(path: path(name)).readAll(maximumByteCount: Self.maximumSize)
        if let other = foreignFormat(bytes) {
            throw LatheError(.corrupt, "\(path(name)) is no tokenizer file: \(other)")
        }
        return bytes.array()
    }

    /// - Returns: nil if there is no such file.
    func object(_ name: String) throws(LatheError) -> JSONObject? {
        guard let bytes = try bytes(name) else { return nil }
        return try JSON.parse(bytes, source: path(name)).object(at: path(name))
    }
}
