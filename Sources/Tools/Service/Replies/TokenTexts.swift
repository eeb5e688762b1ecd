import Lathe
import LatheFormat

/// Tokens as the `logprobs` of a completion name them.
struct TokenTexts: Sendable {
    let tokenizer: Tokenizer?

    /// The token's own text; `bytes:\x…` where it is no whole UTF-8, as OpenAI's API writes it; without a tokenizer `token:ID`.
    func text(_ id: Int32) -> String {
        guard let bytes = try? tokenizer?.bytes(of: id) else { return "token:\(id)" }
        return String(validating: bytes, as: UTF8.self)
            ?? "bytes:" + bytes.map { "\\x" + String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    /// Unicode scalars that begin in the token.
    func scalarCount(_ id: Int32) -> Int {
        guard let bytes = try? tokenizer?.bytes(of: id) else { return 0 }
        return bytes.count { $0 & 0xC0 != 0x80 }
    }
}

/// The `logprobs` object of a choice, or of a piece of one.
struct LogProbabilityLists {
    private let texts: TokenTexts
    private var tokens: [JSON] = []
    private var logProbabilities: [JSON] = []
    private var top: [JSON] = []
    private var offsets: [JSON] = []
    /// Of the next token, in Unicode scalars from the start of the returned text.
    private(set) var offset: Int

    init(_ texts: TokenTexts, offset: Int = 0) {
        self.texts = texts
        self.offset = offset
    }

    mutating func append(_ score: TokenScore) { append(score.id, score.logProbability, score.topLogProbabilities) }

    mutating func append(_ token: GeneratedToken) { append(token.id, token.logProbability, token.topLogProbabilities) }

    private mutating func append(_ id: Int32, _ logProbability: Float?, _ likeliest: [TokenLogProbability]) {
        let text = texts.text(id)
        tokens.append(.string(text))
        offsets.append(.number(offset))
        offset += texts.scalarCount(id)
        guard let logProbability else {
            // Nothing predicts the first token of a text.
            logProbabilities.append(.null)
            top.append(.null)
            return
        }
        logProbabilities.append(.number(logProbability))
        // The token itself is always among them, with the very same number. Of two tokens with one text the likelier counts.
        var members = JSONObject()
        for token in likeliest { _ = members.append(texts.text(token.id), .number(token.logProbability)) }
        _ = members.append(text, .number(logProbability))
        top.append(.object(members))
    }

    var json: JSON {
        [
            "tokens": .array(tokens), "token_logprobs": .array(logProbabilities), "top_logprobs": .array(top),
            "text_offset": .array(offsets),
        ]
    }
}
