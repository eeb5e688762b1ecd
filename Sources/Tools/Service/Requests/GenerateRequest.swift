import Lathe
import LatheFormat

/// The body of `POST /generate`: what a transformers pipeline behind a web API takes.
struct GenerateRequest: Sendable {
    let sequence: TokenSequence
    let streams: Bool
    let returnsFullText: Bool
    let seed: UInt64

    init(_ body: [UInt8], _ reader: PromptReader) async throws(ServiceError) {
        var fields = try Fields(body: body)
        let prompt: Prompt
        switch fields.value("prompt") {
        case nil: throw .invalid("The field \"prompt\" is missing.", param: "prompt")
        case .string(let text): prompt = try await reader.prompt(text: text, param: "prompt")
        case .array(let ids): prompt = try reader.prompt(ids: try reader.ids(ids, param: "prompt"), param: "prompt")
        case .some(let other):
            throw .invalid("\"prompt\" is \(other.kind); it must be a string or a list of token ids.", param: "prompt")
        }
        var options = try fields.sampling(defaultTemperature: 0)
        let newTokens = try fields.integer("max_new_tokens", in: 1...Int(Int32.max))
        let length = try fields.integer("max_length", in: 1...Int(Int32.max))
        if newTokens != nil && length != nil {
            throw .invalid(
                "Both \"max_length\" and \"max_new_tokens\" are given; the first counts the prompt too: give one.",
                param: "max_length")
        }
        if let length, length <= prompt.ids.count {
            throw .invalid(
                "\"max_length\" is \(length), and the prompt has \(prompt.ids.count) tokens already.",
                param: "max_length")
        }
        options.maximumTokens = try reader.room(
            after: prompt, wanted: newTokens ?? length.map { $0 - prompt.ids.count },
            standard: RequestLimits.defaultNewTokens, param: length == nil ? "max_new_tokens" : "max_length")
        seed = options.seed ?? .random(in: .min ... .max)
        options.seed = seed
        streams = try fields.bool("stream") ?? false
        returnsFullText = try fields.bool("return_full_text") ?? true
        try fields.requireNothingElse()
        sequence = TokenSequence(index: 0, prompt: prompt, options: options)
    }
}
