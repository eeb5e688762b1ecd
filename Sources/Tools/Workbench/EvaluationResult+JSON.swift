package import LatheFormat

extension EvaluationResult {
    /// As `lathe evaluate --json` prints it.
    package var json: JSONObject {
        JSONObject([
            ("perplexity", .number(perplexity)), ("standard_error", .number(standardError)), ("tokens", .number(tokens)),
            ("bits_per_byte", .number(bitsPerByte)), ("window", .number(window)), ("stride", .number(stride)),
            ("reference", comparison.map { .object($0.json) } ?? .null),
        ])
    }
}

extension EvaluationComparison {
    package var json: JSONObject {
        JSONObject([
            ("perplexity", .number(perplexity)), ("mean_kl", .number(meanDivergence)),
            ("top1_agreement", .number(top1Agreement)),
            ("rms_probability_difference", .number(rmsProbabilityDifference)),
            ("worst_token", .number(worstToken)), ("worst_kl", .number(worstDivergence)),
        ])
    }
}
