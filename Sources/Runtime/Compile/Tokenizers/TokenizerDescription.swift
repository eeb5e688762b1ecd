import LatheFormat

/// A byte-level BPE tokenizer as its files describe it, checked field by field but not yet as a whole.
struct TokenizerDescription {
    struct AddedToken {
        var content: String
        /// The id that the file states; nil if it leaves it to be assigned.
        var statedId: Int?
        var isSpecial = false
        var isNormalized = false
        var stripsLeft = false
        var stripsRight = false
        var isSingleWord = false
    }

    enum Decoder: String { case bytes, spelling }

    /// The file that describes what is around the model, for messages.
    var source: String
    /// The file that holds the vocabulary, and the field, for messages.
    var vocabularyPlace: String
    var vocabulary: JSONObject
    var mergesPlace: String
    var merges: [(left: String, right: String)] = []
    var ignoresMerges = false
    var unknownToken: String?
    var fusesUnknown = false

    var addedPlace: String
    var added: [AddedToken] = []

    var splitsWords = true
    var addsPrefixSpace = false
    var before: [Int] = []
    var after: [Int] = []
    var decoder = Decoder.bytes
    /// What the files say and is not followed, one sentence each.
    var warnings: [String] = []
}
