import FoundationEssentials
import Lathe
import LatheFormat

/// The replies of `POST /v1/completions`, whole or in pieces.
struct CompletionReply: Sendable {
    let request: CompletionRequest
    let modelName: String
    let texts: TokenTexts
    private let id = "cmpl-" + String(UInt64.random(in: .min ... .max), radix: 16)
    private let created = Int(Date().timeIntervalSince1970)

    init(_ request: CompletionRequest, modelName: String, texts: TokenTexts) {
        self.request = request
        self.modelName = modelName
        self.texts = texts
    }

    /// - Parameter results: in the order of the request's sequences.
    func document(_ results: [Continuation]) -> JSON {
        let choices = zip(request.sequences, results).map { sequence, result in
            choice(
                sequence, text: (request.echo ? sequence.prompt.text : "") + result.text,
                logProbabilities: request.logProbabilities.map { _ in
                    var lists = LogProbabilityLists(texts)
                    for score in result.promptScores { lists.append(score) }
                    for token in result.tokens { lists.append(token) }
                    return lists.json
                }, result.finishReason)
        }
        return frame(choices, ("usage", usage(newTokens: results.reduce(0) { $0 + $1.tokens.count })))
    }

    /// What a token adds to its choice; nil where it is nothing that can be told.
    ///
    /// - Parameters:
    ///   - promptScores: with the first token, where they were asked for.
    ///   - offset: of the choice's text so far, in Unicode scalars; it is moved on.
    func event(
        _ sequence: TokenSequence, _ token: GeneratedToken, isFirst: Bool, promptScores: [TokenScore], offset: inout Int
    ) -> JSON? {
        var text = token.text
        var lists: LogProbabilityLists?
        if isFirst && request.echo { text = sequence.prompt.text + text }
        if request.logProbabilities != nil {
            lists = LogProbabilityLists(texts, offset: offset)
            for score in promptScores { lists?.append(score) }
            lists?.append(token)
            offset = lists!.offset
        }
        guard !text.isEmpty || lists != nil || token.finishReason != nil else { return nil }
        return frame([choice(sequence, text: text, logProbabilities: lists?.json, token.finishReason)])
    }

    /// The last event, where usage was asked for.
    func usageEvent(newTokens: Int) -> JSON { frame([], ("usage", usage(newTokens: newTokens))) }

    // MARK: Parts

    private func usage(newTokens: Int) -> JSON {
        // A prompt counts once, however many choices follow it.
        LatheService.usage(
            promptTokens: request.prompts.reduce(0) { $0 + $1.ids.count }, newTokens: newTokens)
    }

    private func choice(
        _ sequence: TokenSequence, text: String, logProbabilities: JSON?, _ reason: FinishReason?
    ) -> JSON {
        let word: String? =
            switch reason {
            case .length: "length"
            case .stop, .endOfText: "stop"
            case nil: nil
            }
        return [
            "index": .number(sequence.index), "text": .string(text), "logprobs": logProbabilities ?? .null,
            "finish_reason": word.map(JSON.string) ?? .null,
        ]
    }

    private func frame(_ choices: [JSON], _ more: (String, JSON)...) -> JSON {
        .object(
            JSONObject(
                [
                    ("id", .string(id)), ("object", "text_completion"), ("created", .number(created)),
                    ("model", .string(modelName)), ("choices", .array(choices)),
                ] + more))
    }
}
