import Lathe
import LatheFormat

/// A prompt, as ids and as what the caller wrote.
struct Prompt: Sendable {
    /// Never empty: an empty text is the beginning-of-text token.
    let ids: [Int32]
    /// What an echo gives back.
    let text: String
}

/// Turns prompts into ids, within the model's bounds.
struct PromptReader: Sendable {
    let model: Model
    let contextLength: Int
    let lane: TokenizerLane

    func prompt(text: String, param: String) async throws(ServiceError) -> Prompt {
        guard let tokenizer = model.tokenizer else {
            throw .invalid("This model has no tokenizer: give \"\(param)\" as a list of token ids.", param: param)
        }
        let ids = await lane.encode(text, tokenizer)
        return Prompt(ids: try nonEmpty(ids, param: param), text: text)
    }

    func prompt(ids: [Int32], param: String) throws(ServiceError) -> Prompt {
        let vocabulary = model.configuration.vocabularySize
        if let wrong = ids.first(where: { $0 < 0 || Int($0) >= vocabulary }) {
            throw .invalid(
                "\"\(param)\" holds the token id \(wrong), outside the vocabulary of \(vocabulary).", param: param)
        }
        let text = (try? model.tokenizer?.decode(ids)) ?? ""
        return Prompt(ids: try nonEmpty(ids, param: param), text: text)
    }

    /// A string, a list of strings, a list of token ids, or a list of lists of token ids.
    func prompts(_ value: JSON, param: String) async throws(ServiceError) -> [Prompt] {
        switch value {
        case .string(let text): return [try await prompt(text: text, param: param)]
        case .array(let elements):
            guard let first = elements.first else { throw .invalid("\"\(param)\" is an empty list.", param: param) }
            if case .number = first { return [try prompt(ids: try ids(elements, param: param), param: param)] }
            guard elements.count <= RequestLimits.promptCount else {
                throw .invalid(
                    "\"\(param)\" has \(elements.count) prompts; there may be \(RequestLimits.promptCount) at most.",
                    param: param)
            }
            var prompts: [Prompt] = []
            for element in elements {
                switch element {
                case .string(let text): prompts.append(try await prompt(text: text, param: param))
                case .array(let tokens):
                    prompts.append(try prompt(ids: try ids(tokens, param: param), param: param))
                default:
                    throw .invalid(
                        "\"\(param)\" holds \(element.kind) among prompts; each must be a string or a list of token ids.",
                        param: param)
                }
            }
            return prompts
        default:
            throw .invalid(
                "\"\(param)\" is \(value.kind); it must be a string, a list of strings, or lists of token ids.",
                param: param)
        }
    }

    func ids(_ elements: [JSON], param: String) throws(ServiceError) -> [Int32] {
        var ids: [Int32] = []
        ids.reserveCapacity(elements.count)
        for element in elements {
            guard let number = Fields.integer(element) else {
                throw .invalid("\"\(param)\" holds \(element.kind) among token ids.", param: param)
            }
            guard let id = Int32(exactly: number) else {
                throw .invalid(
                    "\"\(param)\" holds the token id \(number), outside the vocabulary of \(model.configuration.vocabularySize).",
                    param: param)
            }
            ids.append(id)
        }
        return ids
    }

    private func nonEmpty(_ ids: [Int32], param: String) throws(ServiceError) -> [Int32] {
        if !ids.isEmpty { return ids }
        guard let first = model.configuration.beginningOfTextID else {
            throw .invalid(
                "\"\(param)\" is empty, and the model names no beginning-of-text token to stand for it.", param: param)
        }
        return [Int32(first)]
    }

    /// Checks that prompt and continuation fit the context, with both counts.
    ///
    /// - Parameters:
    ///   - wanted: tokens asked for; nil: `standard`, or as many as fit.
    /// - Returns: the most tokens to generate.
    func room(
        after prompt: Prompt, wanted: Int?, standard: Int, param: String
    ) throws(ServiceError) -> Int {
        let left = contextLength - prompt.ids.count
        let count = wanted ?? max(1, min(standard, left))
        guard count <= left else {
            throw .invalid(
                """
                The prompt has \(prompt.ids.count) tokens and \(count) new ones were asked; together they exceed the \
                context of \(contextLength).
                """, param: param, code: "context_length_exceeded")
        }
        return count
    }
}

/// Long texts are tokenized one after the other: each may take tens of megabytes for a moment.
actor TokenizerLane {
    private static let shortBytes = 16 << 10

    nonisolated func encode(_ text: String, _ tokenizer: Tokenizer) async -> [Int32] {
        text.utf8.count <= Self.shortBytes ? tokenizer.encode(text) : await encodeInTurn(text, tokenizer)
    }

    private func encodeInTurn(_ text: String, _ tokenizer: Tokenizer) -> [Int32] { tokenizer.encode(text) }
}
