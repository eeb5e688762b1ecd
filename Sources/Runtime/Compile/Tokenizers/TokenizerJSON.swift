import LatheFormat

/// Reads `tokenizer.json`, the format of Hugging Face `tokenizers`. What is not supported is an error that names the field,
/// never passed over: a tokenizer that is nearly right is wrong.
struct TokenizerJSON {
    private let file: JSONObject
    private let source: String

    init(_ file: JSONObject, source: String) {
        self.file = file
        self.source = source
    }

    func description() throws(LatheError) -> TokenizerDescription {
        if let version = try file.stringIfPresent("version", in: source), version != "1.0" {
            throw unsupported("version", quoted(version), "1.0")
        }
        try checkUnsupportedParts()
        let model = try file.object("model", in: source)
        var description = try readModel(model)
        description.warnings = try trainingLeftovers()
        try readAddedTokens(into: &description)
        try TokenizerPipeline(file, source: source).read(into: &description)
        return description
    }

    private func checkUnsupportedParts() throws(LatheError) {
        if let normalizer = try file.objectIfPresent("normalizer", in: source) {
            let type = try normalizer.string("type", in: "\(source): normalizer")
            // A sequence of none does nothing.
            let steps = try normalizer.arrayIfPresent("normalizers", in: "\(source): normalizer")
            guard type == "Sequence", steps == [] else { throw unsupported("normalizer", quoted(type), "null") }
        }
    }

    /// Cutting and filling texts to one length are settings of a training run that were saved with the tokenizer.
    /// transformers resets both before it encodes, and a text that is to be continued must be neither cut nor filled.
    private func trainingLeftovers() throws(LatheError) -> [String] {
        var warnings: [String] = []
        if file.valueIfPresent("truncation") != nil {
            warnings.append("\(source): the field \"truncation\" is passed over: texts are not cut.")
        }
        if let padding = try file.objectIfPresent("padding", in: source) {
            // Padding to the longest of a batch leaves a single text alone.
            let isIdle = padding["strategy"] == "BatchLongest" && padding.valueIfPresent("pad_to_multiple_of") == nil
            if !isIdle { warnings.append("\(source): the field \"padding\" is passed over: texts are not filled.") }
        }
        return warnings
    }

    // MARK: Model

    private func readModel(_ model: JSONObject) throws(LatheError) -> TokenizerDescription {
        let place = "\(source): model"
        // Files from before version 0.9 have no type; they are told by their merges.
        let type = try model.stringIfPresent("type", in: place) ?? (model.contains("merges") ? "BPE" : "unknown")
        guard type == "BPE" else { throw unsupported("model.type", quoted(type), "BPE") }
        for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if let text = try model.stringIfPresent(field, in: place), !text.isEmpty {
                throw unsupported("model.\(field)", quoted(text), "empty")
            }
        }
        if let dropout = try model.doubleIfPresent("dropout", in: place), dropout != 0 {
            throw unsupported("model.dropout", "\(dropout)", "null")
        }
        if try model.boolIfPresent("byte_fallback", in: place) ?? false {
            throw unsupported("model.byte_fallback", "true", "false")
        }
        var description = TokenizerDescription(
            source: source, vocabularyPlace: "\(source): model.vocab", vocabulary: try model.object("vocab", in: place),
            mergesPlace: "\(source): model.merges", addedPlace: "\(source): added_tokens")
        description.merges = try readMerges(try model.array("merges", in: place), place: description.mergesPlace)
        description.ignoresMerges = try model.boolIfPresent("ignore_merges", in: place) ?? false
        description.unknownToken = try model.stringIfPresent("unk_token", in: place)
        description.fusesUnknown = try model.boolIfPresent("fuse_unk", in: place) ?? false
        return description
    }

    /// Merges are pairs, or strings with one space between the parts.
    private func readMerges(
        _ elements: [JSON], place: String
    ) throws(LatheError) -> [(left: String, right: String)] {
        var merges: [(left: String, right: String)] = []
        merges.reserveCapacity(elements.count)
        for (index, element) in elements.enumerated() {
            switch element {
            case .string(let text):
                if let pair = try MergeLine.parse(text, place: "\(place)[\(index)]") { merges.append(pair) }
            case .array(let parts):
                guard parts.count == 2, case .string(let left) = parts[0], case .string(let right) = parts[1] else {
                    throw LatheError(.corrupt, "\(place)[\(index)] must be two strings.")
                }
                merges.append((left, right))
            default:
                throw LatheError(
                    .corrupt, "\(place)[\(index)] is \(element.kind); it must be a string or a pair of them.")
            }
        }
        return merges
    }

    // MARK: Added tokens

    private func readAddedTokens(into description: inout TokenizerDescription) throws(LatheError) {
        for (index, element) in (try file.arrayIfPresent("added_tokens", in: source) ?? []).enumerated() {
            let place = "\(description.addedPlace)[\(index)]"
            let fields = try element.object(at: place)
            description.added.append(
                try AddedTokenFields.read(fields, place: place, id: try fields.int("id", in: place)))
        }
    }

    private func unsupported(_ field: String, _ value: String, _ wanted: String) -> LatheError {
        LatheError(.unsupported, "\(source): the field \(quoted(field)) is \(value); only \(wanted) is supported.")
    }
}

/// One merge written as text: two tokens with one space between them.
enum MergeLine {
    /// - Returns: nil for a version line.
    static func parse(_ text: String, place: String) throws(LatheError) -> (left: String, right: String)? {
        if text.utf8.starts(with: "#version".utf8) { return nil }
        let parts = text.utf8.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
            throw LatheError(
                .corrupt, "\(place) is \(quoted(text)); a merge is two tokens with one space between them.")
        }
        return (String(Substring(parts[0])), String(Substring(parts[1])))
    }
}

/// The description of an added token, the same in `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`.
enum AddedTokenFields {
    static func read(
        _ fields: JSONObject, place: String, id: Int?
    ) throws(LatheError) -> TokenizerDescription.AddedToken {
        var token = TokenizerDescription.AddedToken(content: try fields.string("content", in: place), statedId: id)
        token.isSpecial = try fields.boolIfPresent("special", in: place) ?? false
        token.isNormalized = try fields.boolIfPresent("normalized", in: place) ?? !token.isSpecial
        token.stripsLeft = try fields.boolIfPresent("lstrip", in: place) ?? false
        token.stripsRight = try fields.boolIfPresent("rstrip", in: place) ?? false
        token.isSingleWord = try fields.boolIfPresent("single_word", in: place) ?? false
        return token
    }
}
