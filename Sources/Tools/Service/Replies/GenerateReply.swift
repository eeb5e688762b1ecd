import Lathe
import LatheFormat

/// The replies of `POST /generate`.
enum GenerateReply {
    static func document(_ request: GenerateRequest, _ result: Continuation) -> JSON {
        let text = request.returnsFullText ? request.sequence.prompt.text + result.text : result.text
        return [
            "generated_text": .string(text), "finish_reason": .string(result.finishReason!.rawValue),
            "usage": usage(promptTokens: request.sequence.prompt.ids.count, newTokens: result.tokens.count),
            "seed": .number(request.seed),
        ]
    }

    /// One token on its way; nil where it makes no text certain.
    static func event(_ token: GeneratedToken) -> JSON? {
        token.text.isEmpty ? nil : ["token_id": .number(token.id), "text": .string(token.text)]
    }
}

/// Tokens in and out, in the words of OpenAI's API.
func usage(promptTokens: Int, newTokens: Int) -> JSON {
    [
        "prompt_tokens": .number(promptTokens), "completion_tokens": .number(newTokens),
        "total_tokens": .number(promptTokens + newTokens),
    ]
}
