import Lathe
import LatheFormat

/// The body of `POST /v1/completions`, as OpenAI's API has it.
struct CompletionRequest: Sendable {
    /// Prompt by prompt, and of each prompt its choices.
    let sequences: [TokenSequence]
    let prompts: [Prompt]
    let streams: Bool
    let streamsUsage: Bool
    let echo: Bool
    /// Likeliest tokens listed beside each; nil: no log-probabilities.
    let logProbabilities: Int?

    init(_ body: [UInt8], _ reader: PromptReader, modelName: String) async throws(ServiceError) {
        var fields = try Fields(body: body)
        try fields.requireModel(modelName)
        guard let prompt = fields.value("prompt") else {
            throw .invalid("The field \"prompt\" is missing.", param: "prompt")
        }
        prompts = try await reader.prompts(prompt, param: "prompt")
        var options = try fields.sampling(defaultTemperature: 1)
        let maximum = try fields.integer("max_tokens", in: 1...Int(Int32.max))
        let choices = try fields.integer("n", in: 1...RequestLimits.choiceCount) ?? 1
        echo = try fields.bool("echo") ?? false
        logProbabilities = try fields.integer("logprobs", in: 0...RequestLimits.topLogProbabilities)
        options.topLogProbabilities = logProbabilities
        streams = try fields.bool("stream") ?? false
        streamsUsage = try Self.streamsUsage(&fields)
        _ = try fields.string("user")
        try Self.requireNeutralFields(&fields, choices: choices)
        try fields.requireNothingElse()
        guard prompts.count * choices <= RequestLimits.promptCount else {
            throw .invalid(
                """
                \(prompts.count) prompts with \(choices) choices each were asked; there may be \
                \(RequestLimits.promptCount) sequences at most.
                """, param: "n")
        }

        let seed = options.seed ?? .random(in: .min ... .max)
        var sequences: [TokenSequence] = []
        for prompt in prompts {
            options.maximumTokens = try reader.room(
                after: prompt, wanted: maximum, standard: RequestLimits.defaultCompletionTokens, param: "max_tokens")
            for choice in 0..<choices {
                // The first choice is what the seed alone gives; the others follow it.
                options.seed = seed &+ UInt64(choice)
                sequences.append(
                    TokenSequence(
                        index: sequences.count, prompt: prompt, options: options,
                        scoresPrompt: echo && logProbabilities != nil))
            }
        }
        self.sequences = sequences
    }

    private static func streamsUsage(_ fields: inout Fields) throws(ServiceError) -> Bool {
        switch fields.value("stream_options") {
        case nil: return false
        case .object(let object):
            if let unknown = object.members.first(where: { $0.key != "include_usage" }) {
                throw .invalid(
                    "\"stream_options\" has the unknown field \(quoted(unknown.key)).", param: "stream_options")
            }
            switch object.valueIfPresent("include_usage") {
            case nil: return false
            case .bool(let value): return value
            case .some(let other):
                throw .invalid(
                    "\"stream_options.include_usage\" is \(other.kind); it must be true or false.",
                    param: "stream_options")
            }
        case .some(let other):
            throw .invalid("\"stream_options\" is \(other.kind); it must be an object.", param: "stream_options")
        }
    }

    /// Clients send these at the values that change nothing; another value would silently not be kept.
    private static func requireNeutralFields(_ fields: inout Fields, choices: Int) throws(ServiceError) {
        func isZero(_ value: JSON) -> Bool {
            if case .number(let digits) = value { Double(digits) == 0 } else { false }
        }
        try fields.requireNeutral("frequency_penalty", "0", isZero)
        try fields.requireNeutral("presence_penalty", "0", isZero)
        try fields.requireNeutral("best_of", "the value of \"n\"") { Fields.integer($0) == choices }
        try fields.requireNeutral("suffix", "an empty string") { $0 == "" }
        try fields.requireNeutral("logit_bias", "an empty object") {
            if case .object(let object) = $0 { object.isEmpty } else { false }
        }
    }
}
