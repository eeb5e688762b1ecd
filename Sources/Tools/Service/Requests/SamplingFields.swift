import Lathe
import LatheFormat

extension Fields {
    /// What both ways to ask for text share. A range that is wrong is refused by field, before the engine sees it.
    ///
    /// - Parameter temperature: where none is given.
    mutating func sampling(defaultTemperature temperature: Float) throws(ServiceError) -> GenerationOptions {
        var options = GenerationOptions()
        options.temperature =
            try number("temperature", "0 (greedy) or a positive number", allows: { $0 >= 0 }) ?? temperature
        if let topK = try integer("top_k", in: -1...Int(Int32.max)) {
            // Both are written for "all".
            options.topK = topK > 0 ? topK : nil
        }
        options.topP = try number("top_p", "above 0 and at most 1", allows: { $0 > 0 && $0 <= 1 })
        options.minP = try number("min_p", "from 0 to 1", allows: { $0 >= 0 && $0 <= 1 })
        options.repetitionPenalty =
            try number("repetition_penalty", "a positive number, 1 for none", allows: { $0 > 0 }) ?? 1
        options.seed = try seed("seed")
        options.stop = try stop("stop")
        options.ignoresEndOfText = try bool("ignore_eos") ?? false
        return options
    }
}
