import LatheFormat

/// Reads the older form of a GPT-2 tokenizer: `vocab.json` and `merges.txt`, with the added tokens in
/// `tokenizer_config.json`, `added_tokens.json` and `special_tokens_map.json` as far as these are there.
struct VocabularyAndMerges {
    private let files: TokenizerFiles

    init(files: TokenizerFiles) { self.files = files }

    func description() throws(LatheError) -> TokenizerDescription {
        guard let vocabulary = try files.object("vocab.json") else {
            throw missing("vocab.json", besides: "merges.txt")
        }
        guard let merges = try files.bytes("merges.txt") else { throw missing("merges.txt", besides: "vocab.json") }
        var description = TokenizerDescription(
            source: files.path("tokenizer_config.json"), vocabularyPlace: files.path("vocab.json"),
            vocabulary: vocabulary,
            mergesPlace: files.path("merges.txt"), addedPlace: files.path("tokenizer_config.json"))
        description.merges = try readMerges(merges)
        let configuration = try files.object("tokenizer_config.json") ?? JSONObject()
        try readOptions(configuration, into: &description)
        try readAddedTokens(configuration, into: &description)
        return description
    }

    private func missing(_ name: String, besides other: String) -> LatheError {
        LatheError(
            .missing, "\(files.path(name)) is missing beside \(other); a tokenizer needs both, or a tokenizer.json.")
    }

    private func readMerges(_ bytes: [UInt8]) throws(LatheError) -> [(left: String, right: String)] {
        var merges: [(left: String, right: String)] = []
        let path = files.path("merges.txt")
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            let line = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
            if line.isEmpty { continue }
            guard let text = String(validating: line, as: UTF8.self) else {
                throw LatheError(.corrupt, "\(path): line \(index + 1) is not valid UTF-8.")
            }
            if let pair = try MergeLine.parse(text, place: "\(path): line \(index + 1)") { merges.append(pair) }
        }
        return merges
    }

    /// The classes that read these two files by GPT-2's rules, and the generic ones that say nothing against it.
    private static let classes = ["GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"]

    private func readOptions(
        _ configuration: JSONObject, into description: inout TokenizerDescription
    ) throws(LatheError) {
        let source = files.path("tokenizer_config.json")
        if let name = try configuration.stringIfPresent("tokenizer_class", in: source),
            !Self.classes.contains(name)
        {
            throw LatheError(
                .unsupported,
                "\(source): the field \"tokenizer_class\" is \(quoted(name)), whose rules vocab.json and merges.txt do not hold; "
                    + "save the tokenizer as tokenizer.json.")
        }
        if try configuration.boolIfPresent("add_eos_token", in: source) ?? false {
            throw LatheError(
                .unsupported, "\(source): the field \"add_eos_token\" is true; save the tokenizer as tokenizer.json.")
        }
        if try configuration.boolIfPresent("add_bos_token", in: source) ?? false {
            let content = try specialToken(
                configuration.valueIfPresent("bos_token") ?? "<|endoftext|>", place: "\(source): bos_token"
            ).content
            guard
                let id = try description.vocabulary[content]?.int(
                    at: "\(description.vocabularyPlace): \(quoted(content))")
            else {
                throw LatheError(
                    .unsupported,
                    "\(source): the field \"add_bos_token\" is true, but \(quoted(content)) is not in vocab.json; save the "
                        + "tokenizer as tokenizer.json.")
            }
            description.before = [id]
        }
        description.addsPrefixSpace = try configuration.boolIfPresent("add_prefix_space", in: source) ?? false
    }

    // MARK: Added tokens

    private func readAddedTokens(
        _ configuration: JSONObject, into description: inout TokenizerDescription
    ) throws(LatheError) {
        let source = files.path("tokenizer_config.json")
        var added: [TokenizerDescription.AddedToken] = []
        if let members = try configuration.objectIfPresent("added_tokens_decoder", in: source)?.members {
            for member in members {
                let place = "\(source): added_tokens_decoder: \(quoted(member.key))"
                guard let id = Int(member.key), id >= 0 else { throw LatheError(.corrupt, "\(place) must be an id.") }
                added.append(try AddedTokenFields.read(try member.value.object(at: place), place: place, id: id))
            }
        } else if let members = try files.object("added_tokens.json")?.members {
            let place = files.path("added_tokens.json")
            for member in members {
                let id = try member.value.int(at: "\(place): \(quoted(member.key))")
                added.append(.init(content: member.key, statedId: id, isNormalized: true))
            }
        }
        added.sort { $0.statedId ?? 0 < $1.statedId ?? 0 }
        for token in try specialTokens(configuration) {
            if let known = added.firstIndex(where: { $0.content.utf8.elementsEqual(token.content.utf8) }) {
                added[known].isSpecial = true
            } else {
                added.append(token)
            }
        }
        description.added = added
    }

    /// The tokens with a role, GPT-2's own one where the files name none.
    private func specialTokens(
        _ configuration: JSONObject
    ) throws(LatheError) -> [TokenizerDescription.AddedToken] {
        let map = try files.object("special_tokens_map.json") ?? JSONObject()
        var tokens: [TokenizerDescription.AddedToken] = []
        for (fields, source) in [
            (map, files.path("special_tokens_map.json")), (configuration, files.path("tokenizer_config.json")),
        ] {
            for role in ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"] {
                if let value = fields.valueIfPresent(role) {
                    tokens.append(try specialToken(value, place: "\(source): \(role)"))
                }
            }
            let others = try fields.arrayIfPresent("additional_special_tokens", in: source) ?? []
            for value in others {
                tokens.append(try specialToken(value, place: "\(source): additional_special_tokens"))
            }
        }
        // The defaults of the GPT-2 tokenizer's class.
        return tokens.isEmpty ? [.init(content: "<|endoftext|>", isSpecial: true)] : tokens
    }

    /// A special token is its content, or an object with its content and options.
    private func specialToken(_ value: JSON, place: String) throws(LatheError) -> TokenizerDescription.AddedToken {
        if case .string(let content) = value { return .init(content: content, isSpecial: true) }
        var token = try AddedTokenFields.read(try value.object(at: place), place: place, id: nil)
        token.isSpecial = true
        return token
    }
}
