package import LatheFormat

/// What a recipe gave: the figures that tables and plots show.
package struct SweepResult: Sendable {
    package let name: String
    /// As `SweepRecipe.json` has it.
    package let recipe: JSON
    package let fileBytes: Int
    /// The fraction of all matrices' weights that is zero.
    package let sparsity: Double
    package let speed: SpeedFigures
    package let quality: QualityFigures

    /// Decode tokens/s that a probe of `bandwidth` bytes/s would have allowed, at the most threads measured: on a shared
    /// machine bandwidth changes from minute to minute, and the recipe's own share of it hardly does.
    package func decodeSpeed(at bandwidth: Double) -> Double {
        guard let decode = speed.decode.last else { return 0 }
        return decode.tokensPerSecond * bandwidth / decode.probeBytesPerSecond
    }
}

/// What `lathe bench`, a process of its own, measured of a file.
package struct SpeedFigures: Sendable {
    package struct Phase: Sendable {
        package let threads: Int
        /// The median, over the batch.
        package let tokensPerSecond: Double
        /// The same of the fastest run.
        package let fastest: Double
        package let bytesPerToken: Double
        package let probeBytesPerSecond: Double
    }

    package let peakResidentBytes: Int
    /// By number of threads, in the order asked for.
    package let prefill: [Phase]
    package let decode: [Phase]

    /// - Parameter json: what `lathe bench --json` printed, or what `json` made of it.
    package init(json: JSONObject, source: String) throws(LatheError) {
        peakResidentBytes = try json.int("peak_resident_bytes", in: source)
        var phases: [String: [Phase]] = [:]
        for item in try json.array("results", in: source) {
            let result = try item.object(at: source)
            let speed = try result.object("tokens_per_second", in: source)
            phases[try result.string("phase", in: source), default: []].append(
                Phase(
                    threads: try result.int("threads", in: source),
                    tokensPerSecond: try speed.double("median", in: source),
                    fastest: try speed.double("max", in: source),
                    bytesPerToken: try result.double("bytes_per_token", in: source),
                    probeBytesPerSecond: try result.double("probe_bytes_per_second", in: source)))
        }
        prefill = phases["prefill"] ?? []
        decode = phases["decode"] ?? []
    }

    package var json: JSON {
        func results(_ name: String, _ phases: [Phase]) -> [JSON] {
            phases.map { phase in
                .object(
                    JSONObject([
                        ("phase", .string(name)), ("threads", .number(phase.threads)),
                        (
                            "tokens_per_second",
                            .object(
                                JSONObject([
                                    ("median", .number(phase.tokensPerSecond)), ("max", .number(phase.fastest)),
                                ]))
                        ),
                        ("bytes_per_token", .number(phase.bytesPerToken)),
                        ("probe_bytes_per_second", .number(phase.probeBytesPerSecond)),
                    ]))
            }
        }
        return .object(
            JSONObject([
                ("peak_resident_bytes", .number(peakResidentBytes)),
                ("results", .array(results("prefill", prefill) + results("decode", decode))),
            ]))
    }
}

/// What `Evaluation` measured, against the float32 checkpoint.
package struct QualityFigures: Sendable {
    package let perplexity: Double
    package let standardError: Double
    package let tokens: Int
    package let bitsPerByte: Double
    package let referencePerplexity: Double
    package let meanDivergence: Double
    package let top1Agreement: Double
    package let rmsProbabilityDifference: Double
    /// Of log(perplexity / reference's), from the differences token by token.
    package let increaseError: Double

    /// The fraction by which the perplexity is above the reference's.
    package var increase: Double { perplexity / referencePerplexity - 1 }

    init(_ result: EvaluationResult, _ comparison: EvaluationComparison) {
        perplexity = result.perplexity
        standardError = result.standardError
        tokens = result.tokens
        bitsPerByte = result.bitsPerByte
        referencePerplexity = comparison.perplexity
        meanDivergence = comparison.meanDivergence
        top1Agreement = comparison.top1Agreement
        rmsProbabilityDifference = comparison.rmsProbabilityDifference
        increaseError = comparison.increaseError
    }

    package init(json: JSONObject, source: String) throws(LatheError) {
        perplexity = try json.double("perplexity", in: source)
        standardError = try json.double("standard_error", in: source)
        tokens = try json.int("tokens", in: source)
        bitsPerByte = try json.double("bits_per_byte", in: source)
        let reference = try json.object("reference", in: source)
        referencePerplexity = try reference.double("perplexity", in: source)
        meanDivergence = try reference.double("mean_kl", in: source)
        top1Agreement = try reference.double("top1_agreement", in: source)
        rmsProbabilityDifference = try reference.double("rms_probability_difference", in: source)
        increaseError = try reference.double("increase_error", in: source)
    }

    package var json: JSON {
        .object(
            JSONObject([
                ("perplexity", .number(perplexity)), ("standard_error", .number(standardError)),
                ("tokens", .number(tokens)), ("bits_per_byte", .number(bitsPerByte)),
                (
                    "reference",
                    .object(
                        JSONObject([
                            ("perplexity", .number(referencePerplexity)), ("mean_kl", .number(meanDivergence)),
                            ("top1_agreement", .number(top1Agreement)),
                            ("rms_probability_difference", .number(rmsProbabilityDifference)),
                            ("increase_error", .number(increaseError)),
                        ]))
                ),
            ]))
    }
}

extension SweepResult {
    package init(json: JSONObject, source: String) throws(LatheError) {
        name = try json.string("name", in: source)
        recipe = try json.value("recipe", in: source)
        fileBytes = try json.int("file_bytes", in: source)
        sparsity = try json.double("sparsity", in: source)
        speed = try SpeedFigures(json: try json.object("speed", in: source), source: source)
        quality = try QualityFigures(json: try json.object("quality", in: source), source: source)
    }

    package var json: JSON {
        .object(
            JSONObject([
                ("name", .string(name)), ("recipe", recipe), ("file_bytes", .number(fileBytes)),
                ("sparsity", .number(sparsity)), ("speed", speed.json), ("quality", quality.json),
            ]))
    }
}
