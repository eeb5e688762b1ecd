import LatheFormat

/// The parts of `tokenizer.json` around the model: what cuts the text, what is put around the ids, what joins tokens.
struct TokenizerPipeline {
    private let file: JSONObject
    private let source: String

    /// GPT-2's pattern as Hugging Face writes it; `PreTokenizer` in the online half is this pattern and no other.
    static let pattern = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

    init(_ file: JSONObject, source: String) {
        self.file = file
        self.source = source
    }

    func read(into description: inout TokenizerDescription) throws(LatheError) {
        try readPreTokenizer(into: &description)
        try readPostProcessor(into: &description)
        try readDecoder(into: &description)
    }

    // MARK: Pre-tokenizer

    private func readPreTokenizer(into description: inout TokenizerDescription) throws(LatheError) {
        let steps = try flattened("pre_tokenizer", members: "pretokenizers")
        guard let last = steps.last, last.type == "ByteLevel" else {
            throw unsupported("pre_tokenizer", try typeName("pre_tokenizer"), "ByteLevel")
        }
        // Hugging Face reads an absent add_prefix_space as an error, an absent use_regex as true.
        let addsPrefixSpace = try last.fields.bool("add_prefix_space", in: last.place)
        let usesPattern = try last.fields.boolIfPresent("use_regex", in: last.place) ?? true
        if steps.count > 1 {
            guard steps.count == 2, !usesPattern, !addsPrefixSpace, try isGPT2Split(steps[0]) else {
                throw unsupported(
                    "pre_tokenizer", "a sequence of \(steps.map(\.type).joined(separator: ", "))",
                    "ByteLevel, or a Split by GPT-2's pattern before a ByteLevel without use_regex and add_prefix_space,"
                )
            }
        }
        description.splitsWords = usesPattern || steps.count > 1
        description.addsPrefixSpace = addsPrefixSpace
    }

    private func isGPT2Split(_ step: Step) throws(LatheError) -> Bool {
        guard step.type == "Split" else { return false }
        let pattern = try step.fields.object("pattern", in: step.place)
        let isInverted = try step.fields.boolIfPresent("invert", in: step.place) ?? false
        let behavior = try step.fields.string("behavior", in: step.place)
        // The pattern covers any text, so there is nothing between its matches to keep or to remove.
        return try pattern.stringIfPresent("Regex", in: step.place) == Self.pattern
            && (behavior == "Isolated" || behavior == "Removed" && isInverted)
    }

    // MARK: Post-processor

    private func readPostProcessor(into description: inout TokenizerDescription) throws(LatheError) {
        for step in try flattened("post_processor", members: "processors") {
            switch step.type {
            case "ByteLevel": break  // It moves offsets, which nobody asks for here.
            case "TemplateProcessing": try readTemplate(step, into: &description)
            default: throw unsupported(step.field, quoted(step.type), "ByteLevel or TemplateProcessing")
            }
        }
    }

    /// The template for a single text: special tokens, the text once, special tokens.
    private func readTemplate(_ step: Step, into description: inout TokenizerDescription) throws(LatheError) {
        let specials = try step.fields.objectIfPresent("special_tokens", in: step.place) ?? JSONObject()
        var before: [Int] = []
        var after: [Int] = []
        var sequences = 0
        for (index, element) in try step.fields.array("single", in: step.place).enumerated() {
            let place = "\(step.place).single[\(index)]"
            let piece = try element.object(at: place)
            if let sequence = try piece.objectIfPresent("Sequence", in: place) {
                guard try sequence.string("id", in: place) == "A" else {
                    throw LatheError(.unsupported, "\(place) names a second text; only \"A\" is supported.")
                }
                sequences += 1
            } else {
                let name = try piece.object("SpecialToken", in: place).string("id", in: place)
                let special = try specials.object(name, in: "\(step.place).special_tokens")
                for id in try special.array("ids", in: "\(step.place).special_tokens") {
                    let id = try id.int(at: "\(step.place).special_tokens: the id of \(quoted(name))")
                    if sequences == 0 { before.append(id) } else { after.append(id) }
                }
            }
        }
        guard sequences == 1 else {
            throw LatheError(
                .unsupported, "\(step.place).single must hold the text \"A\" once; it holds it \(sequences) times.")
        }
        description.before = before + description.before
        description.after += after
    }

    // MARK: Decoder

    private func readDecoder(into description: inout TokenizerDescription) throws(LatheError) {
        let steps = try flattened("decoder", members: "decoders")
        if steps.isEmpty {
            description.decoder = .spelling
        } else if steps.count == 1, steps[0].type == "ByteLevel" {
            description.decoder = .bytes
        } else {
            throw unsupported("decoder", try typeName("decoder"), "ByteLevel")
        }
    }

    // MARK: Steps

    private struct Step {
        var type: String
        var fields: JSONObject
        var field: String
        /// For messages.
        var place: String
    }

    /// The steps of a part of the pipeline: none if it is null, those inside if it is a `Sequence`, else itself.
    private func flattened(_ field: String, members: String) throws(LatheError) -> [Step] {
        guard let fields = try file.objectIfPresent(field, in: source) else { return [] }
        return try flattened(fields, field, members)
    }

    /// Recursion is bounded by the depth that the JSON parser allows.
    private func flattened(_ fields: JSONObject, _ field: String, _ members: String) throws(LatheError) -> [Step] {
        let place = "\(source): \(field)"
        let type = try fields.string("type", in: place)
        guard type == "Sequence" else { return [Step(type: type, fields: fields, field: field, place: place)] }
        var steps: [Step] = []
        for (index, member) in try fields.array(members, in: place).enumerated() {
            let inner = "\(field).\(members)[\(index)]"
            steps += try flattened(try member.object(at: "\(source): \(inner)"), inner, members)
        }
        return steps
    }

    private func typeName(_ field: String) throws(LatheError) -> String {
        guard let fields = try file.objectIfPresent(field, in: source) else { return "null" }
        return quoted(try fields.string("type", in: "\(source): \(field)"))
    }

    private func unsupported(_ field: String, _ value: String, _ wanted: String) -> LatheError {
        LatheError(.unsupported, "\(source): the field \(quoted(field)) is \(value); only \(wanted) is supported.")
    }
}
