package import LatheFormat

extension EvaluationResult {
    /// As `lathe evaluate --json` prints it.
    ///
    /// - Parameter excerpt: the text around a token.
    package func json(excerpt: (Int) -> String) -> JSONObject {
        JSONObject([
            ("perplexity", .number(perplexity)), ("standard_error", .number(standardError)),
            ("tokens", .number(tokens)),
            ("bits_per_byte", .number(bitsPerByte)), ("window", .number(window)), ("stride", .number(stride)),
            ("reference", comparison.map { .object($0.json(excerpt: excerpt)) } ?? .null),
        ])
    }
}

extension EvaluationComparison {
    package func json(excerpt: (Int) -> String) -> JSONObject {
        JSONObject([
            ("perplexity", .number(perplexity)), ("mean_kl", .number(meanDivergence)),
            ("top1_agreement", .number(top1Agreement)),
            ("rms_probability_difference", .number(rmsProbabilityDifference)),
            ("increase_error", .number(increaseError)),
            (
                "worst",
                .object(
                    JSONObject([
                        ("token", .number(worstToken)), ("kl", .number(worstDivergence)),
                        ("text", .string(excerpt(worstToken))),
                    ]))
            ),
        ])
    }
}
