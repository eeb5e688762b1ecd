package import LatheFormat

/// A sweep's results for people, spreadsheets and programs.
package struct SweepTables {
    private let results: [SweepResult]
    private let failures: [(name: String, reason: String)]
    private let threads: [Int]

    package init(_ results: [SweepResult], failures: [(name: String, reason: String)]) {
        self.results = results
        self.failures = failures
        threads = results.first?.speed.decode.map(\.threads) ?? []
    }

    // MARK: Markdown

    package var markdown: String {
        var header = ["recipe", "file", "zeros", "peak memory"]
        for count in threads {
            let label = "\(count) thread\(count == 1 ? "" : "s")"
            header += ["prefill, \(label)", "decode, \(label)", "of probe"]
        }
        header += ["perplexity", "change", "KL, nats", "same top-1"]
        var lines = [Self.row(header), Self.row(header.indices.map { $0 == 0 ? ":--" : "--:" })]
        for result in results { lines.append(Self.row(cells(of: result))) }
        if let reference = results.first?.quality {
            lines.append("")
            lines.append(
                """
                Speeds in tokens/s, each beside the share of what the same threads could read at that moment. Perplexity ± \
                standard error over \(reference.tokens) tokens; change, KL(reference ‖ model) and top-1 agreement against \
                the float32 checkpoint, whose perplexity is \(reference.referencePerplexity.rounded(to: 4)). Memory is the \
                peak of a process that runs the model.
                """)
        }
        if !failures.isEmpty {
            lines.append("")
            lines += failures.map { "- \(Self.escaped($0.name)) failed: \(Self.escaped($0.reason))" }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func cells(of result: SweepResult) -> [String] {
        let quality = result.quality
        var cells = [
            result.name, Bytes.text(result.fileBytes), "\((result.sparsity * 100).rounded(to: 1)) %",
            Bytes.text(result.speed.peakResidentBytes),
        ]
        for (prefill, decode) in zip(result.speed.prefill, result.speed.decode) {
            cells += [
                prefill.tokensPerSecond.rounded(to: 0), decode.tokensPerSecond.rounded(to: 1),
                (decode.tokensPerSecond * decode.bytesPerToken / decode.probeBytesPerSecond).rounded(to: 2),
            ]
        }
        cells += [
            "\(quality.perplexity.rounded(to: 3)) ± \(quality.standardError.rounded(to: 3))",
            "\(quality.increase < 0 ? "" : "+")\((quality.increase * 100).rounded(to: 2)) %",
            quality.meanDivergence.scientific, "\((quality.top1Agreement * 100).rounded(to: 2)) %",
        ]
        return cells
    }

    private static func row(_ cells: [String]) -> String {
        "| " + cells.map(escaped).joined(separator: " | ") + " |"
    }

    /// Names come from files.
    private static func escaped(_ text: String) -> String {
        text.map { $0 == "|" ? "\\|" : $0.isNewline ? " " : String($0) }.joined()
    }

    // MARK: CSV

    package var csv: String {
        var header = ["recipe", "file_bytes", "sparsity", "peak_resident_bytes"]
        for count in threads {
            header += ["prefill", "decode"].map { "\($0)_tokens_per_second_\(count)" }
            header += ["bytes_per_token_\(count)", "probe_bytes_per_second_\(count)"]
        }
        header += [
            "perplexity", "standard_error", "reference_perplexity", "increase_error", "mean_kl", "top1_agreement",
            "rms_probability_difference", "bits_per_byte",
        ]
        var lines = [header.joined(separator: ",")]
        for result in results {
            let quality = result.quality
            var cells = [
                Self.field(result.name), "\(result.fileBytes)", "\(result.sparsity)",
                "\(result.speed.peakResidentBytes)",
            ]
            for (prefill, decode) in zip(result.speed.prefill, result.speed.decode) {
                cells += [prefill.tokensPerSecond, decode.tokensPerSecond, decode.bytesPerToken].map(\.description)
                cells.append(decode.probeBytesPerSecond.description)
            }
            cells += [
                quality.perplexity, quality.standardError, quality.referencePerplexity, quality.increaseError,
                quality.meanDivergence, quality.top1Agreement, quality.rmsProbabilityDifference, quality.bitsPerByte,
            ].map(\.description)
            lines.append(cells.joined(separator: ","))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// RFC 4180.
    private static func field(_ text: String) -> String {
        guard text.contains(where: { $0 == "," || $0 == "\"" || $0.isNewline }) else { return text }
        return "\"" + text.map { $0 == "\"" ? "\"\"" : String($0) }.joined() + "\""
    }

    // MARK: JSON

    package var json: JSON {
        .object(
            JSONObject([
                ("results", .array(results.map(\.json))),
                (
                    "failures",
                    .array(
                        failures.map {
                            .object(JSONObject([("name", .string($0.name)), ("reason", .string($0.reason))]))
                        })
                ),
            ]))
    }
}
