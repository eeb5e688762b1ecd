import LatheFormat

/// How to continue a prompt. The defaults are greedy: the likeliest token each time.
public struct GenerationOptions: Sendable, Hashable {
    /// The most tokens to generate, at least 1.
    public var maximumTokens: Int = 64
    /// Divides the logits before sampling; 0 takes the likeliest token (of equals, the smallest id).
    public var temperature: Float = 0
    /// Samples from this many likeliest tokens; nil: all.
    public var topK: Int?
    /// Samples from the smallest set of likeliest tokens whose probabilities reach this sum, in (0, 1] (Holtzman et al. 2019).
    public var topP: Float?
    /// Drops tokens less likely than this fraction of the likeliest one, in [0, 1] (Nguyen et al. 2024).
    public var minP: Float?
    /// Divides positive and multiplies negative logits of every token already seen; 1 does nothing (Keskar et al. 2019).
    public var repetitionPenalty: Float = 1
    /// Same seed, same prompt, same options: same tokens, on any machine and in any company. nil: drawn at random.
    public var seed: UInt64?
    /// Texts that end the continuation; they are cut from it.
    public var stop: [String] = []
    /// With each token, the log-probabilities of this many likeliest tokens; nil: none, not even the token's own.
    public var topLogProbabilities: Int?
    /// Go on past an end-of-text token.
    public var ignoresEndOfText: Bool = false
    /// Guesses up to this many tokens ahead, in 0…64, from what followed where the last tokens stood before in the session, and
    /// reads the weights once for those that were right: faster for texts that repeat, the same tokens for all. 0 guesses
    /// nothing. An engine whose other sessions are busy guesses less, or not at all (prompt lookup decoding, Saxena 2023).
    public var promptLookup: Int = 0

    public init() {}

    /// Refuses what no sampler could do, naming the field.
    func validate(vocabularySize: Int) throws(LatheError) {
        func refuse(_ what: String) -> LatheError { LatheError(.invalidRequest, what) }
        guard maximumTokens >= 1 && maximumTokens <= Int(Int32.max) else {
            throw refuse("The number of tokens to generate is \(maximumTokens); it must be at least 1.")
        }
        guard temperature.isFinite && temperature >= 0 else {
            throw refuse("The temperature is \(temperature); it must be 0 (greedy) or a positive number.")
        }
        if let topK, topK < 1 { throw refuse("top-k is \(topK); it must be at least 1.") }
        if let topP, !(topP > 0 && topP <= 1) { throw refuse("top-p is \(topP); it must be above 0 and at most 1.") }
        if let minP, !(minP >= 0 && minP <= 1) { throw refuse("min-p is \(minP); it must be from 0 to 1.") }
        guard repetitionPenalty.isFinite && repetitionPenalty > 0 else {
            throw refuse("The repetition penalty is \(repetitionPenalty); it must be a positive number, 1 for none.")
        }
        if let count = topLogProbabilities, !(0...vocabularySize).contains(count) {
            throw refuse("\(count) log-probabilities a token were asked; the vocabulary has \(vocabularySize).")
        }
        guard (0...64).contains(promptLookup) else {
            throw refuse("Prompt lookup of \(promptLookup) tokens was asked; it takes 0 (none) to 64.")
        }
        if stop.contains("") { throw refuse("A stop string is empty.") }
    }
}

/// Why a continuation ended.
public enum FinishReason: String, Sendable, Hashable {
    /// The asked number of tokens is there.
    case length
    /// A stop string appeared.
    case stop
    /// The model ended the text.
    case endOfText = "end_of_text"
}

/// A token id and the natural logarithm of its probability under the model, before any sampling option.
public struct TokenLogProbability: Sendable, Hashable {
    public let id: Int32
    public let logProbability: Float
}

/// One step of a continuation.
public struct GeneratedToken: Sendable, Hashable {
    public let id: Int32
    /// The text that became certain with this token: whole characters, without a stop string or the beginning of one.
    /// Empty where the model has no tokenizer.
    public let text: String
    /// Present if log-probabilities were asked for.
    public let logProbability: Float?
    /// The likeliest tokens, likeliest first.
    public let topLogProbabilities: [TokenLogProbability]
    /// Set on the last token alone.
    public let finishReason: FinishReason?
}
