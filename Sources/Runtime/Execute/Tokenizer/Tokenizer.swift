public import LatheFormat

/// Turns text into the ids that a model reads, and back: byte-level BPE, equal to Hugging Face `tokenizers`.
///
/// The tables are used where they lie in the model's file; a copy of this value shares them.
public struct Tokenizer: Sendable {
    let storage: TokenizerStorage

    /// - Parameter source: where the tables come from, for messages.
    package init(tables: TokenizerTables, source: String) throws(LatheError) {
        storage = try TokenizerStorage(tables, source: source)
    }

    /// The largest id plus one, added tokens included. A model's logits may have more entries.
    public var vocabularySize: Int { storage.count }

    /// The id of the token spelled `text`: an added token's content, or a vocabulary entry as its file spells it, in the byte
    /// alphabet (`Ġthe` for " the"). Nil if there is none.
    public func id(of text: String) -> Int32? {
        let span = text.utf8Span.span
        if let id = storage.verbatim.id(of: span) ?? storage.normalized.id(of: span) { return id }
        if let bytes = ByteAlphabet.bytes(spelledBy: text.utf8) { return storage.id(of: bytes, literal: false) }
        return storage.id(of: Array(text.utf8), literal: true)
    }

    /// Whether `id` is an added token marked special, such as the end of a text; false for ids out of range.
    public func isSpecial(_ id: Int32) -> Bool {
        isKnown(id) && TokenKind(rawValue: storage.kinds[Int(id)]).contains(.special)
    }

    /// The bytes that `id` stands for in a text: often a word, sometimes a part of a character, empty if the vocabulary
    /// skips this id.
    ///
    /// - Throws: `invalidRequest` if `id` is negative or not below `vocabularySize`.
    public func bytes(of id: Int32) throws(LatheError) -> [UInt8] {
        try checkRange(id)
        var bytes: [UInt8] = []
        storage.vocabularyBytes.append(storage.range(of: Int(id)), to: &bytes)
        return bytes
    }

    func isKnown(_ id: Int32) -> Bool { id >= 0 && id < storage.count }

    func checkRange(_ id: Int32) throws(LatheError) {
        guard isKnown(id) else {
            throw LatheError(
                .invalidRequest, "The token id \(id) is not in the vocabulary, whose ids are 0 to \(storage.count - 1)."
            )
        }
    }
}
