/// What a model is, apart from its weights: the numbers that a reader, a plan and a person ask for.
public struct ModelConfiguration: Hashable, Sendable {
    /// The checkpoint's `model_type`, such as `gpt2`.
    public var architecture: String
    /// Number of token ids; logits have this many entries.
    public var vocabularySize: Int
    /// The largest number of positions, prompt and continuation together.
    public var contextLength: Int
    /// Width of the residual stream.
    public var width: Int
    public var layerCount: Int
    public var headCount: Int
    /// Elements of one head's query, key and value.
    public var headDimension: Int
    /// The token that opens a text, if the checkpoint names one; an empty prompt stands for it.
    public var beginningOfTextID: Int?
    /// The tokens that end a text; may be empty.
    public var endOfTextIDs: [Int]

    package init(
        architecture: String, vocabularySize: Int, contextLength: Int, width: Int, layerCount: Int, headCount: Int,
        headDimension: Int, beginningOfTextID: Int?, endOfTextIDs: [Int]
    ) {
        self.architecture = architecture
        self.vocabularySize = vocabularySize
        self.contextLength = contextLength
        self.width = width
        self.layerCount = layerCount
        self.headCount = headCount
        self.headDimension = headDimension
        self.beginningOfTextID = beginningOfTextID
        self.endOfTextIDs = endOfTextIDs
    }
}

extension ModelConfiguration {
    package var json: JSON {
        var members: [(String, JSON)] = [
            ("architecture", .string(architecture)),
            ("vocabulary_size", .number(vocabularySize)),
            ("context_length", .number(contextLength)),
            ("width", .number(width)),
            ("layers", .number(layerCount)),
            ("heads", .number(headCount)),
            ("head_dimension", .number(headDimension)),
        ]
        if let beginningOfTextID { members.append(("bos_token_id", .number(beginningOfTextID))) }
        members.append(("eos_token_ids", .array(endOfTextIDs.map(JSON.number))))
        return .object(JSONObject(members))
    }

    /// Reads what `json` wrote; every number is checked against its range, and the token ids against the vocabulary.
    package init(json: JSON, source: String) throws(LatheError) {
        let object = try json.object(at: source)
        func count(_ key: String) throws(LatheError) -> Int {
            let value = try object.int(key, in: source)
            guard value >= 1 && value <= Int(Int32.max) else {
                throw LatheError(.corrupt, "\(source): `\(key)` is \(value), which is not a size from 1 to 2147483647.")
            }
            return value
        }
        architecture = try object.string("architecture", in: source)
        vocabularySize = try count("vocabulary_size")
        contextLength = try count("context_length")
        width = try count("width")
        layerCount = try count("layers")
        headCount = try count("heads")
        headDimension = try count("head_dimension")
        beginningOfTextID = try object.intIfPresent("bos_token_id", in: source)
        var ends: [Int] = []
        for item in try object.array("eos_token_ids", in: source) {
            ends.append(try item.int(at: "\(source), eos_token_ids"))
        }
        endOfTextIDs = ends
        for id in ends + (beginningOfTextID.map { [$0] } ?? []) where id < 0 || id >= vocabularySize {
            throw LatheError(
                .corrupt, "\(source): the special token id \(id) is outside the vocabulary of \(vocabularySize).")
        }
    }
}
