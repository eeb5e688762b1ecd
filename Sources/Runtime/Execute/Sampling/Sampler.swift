import LatheFormat

/// Chooses the next token of one request from its logits.
///
/// Pure but for its counted random numbers. Candidates are always in one total order (logit descending, id ascending)
/// and sums run in that order, so that the choice is the same bits everywhere (docs/ARITHMETIC.md).
struct Sampler {
    private let options: GenerationOptions
    private var random: RandomNumbers
    /// Every token of the prompt and the continuation, once.
    private var seen: [Int32] = []
    private var isSeen: Set<Int32> = []

    /// - Parameter maximumTokens: how many it will be told of at most; where there are more it takes more memory.
    init(options: GenerationOptions, seed: UInt64, maximumTokens: Int) {
        self.options = options
        random = RandomNumbers(seed: seed)
        if options.repetitionPenalty != 1 {
            seen.reserveCapacity(maximumTokens)
            isSeen.reserveCapacity(maximumTokens)
        }
    }

    /// Tells the sampler of tokens that a repetition penalty counts as seen.
    mutating func observe(_ tokens: some Sequence<Int32>) {
        guard options.repetitionPenalty != 1 else { return }
        for token in tokens where isSeen.insert(token).inserted { seen.append(token) }
    }

    /// - Parameter likeliest: the index of the greatest logit, of equals the first; nil where one is not finite.
    /// - Throws: `notFinite` for such a row.
    mutating func sample(
        _ logits: Span<Float>, likeliest: Int?, _ buffers: inout SamplingBuffers
    ) throws(LatheError) -> Int32 {
        guard let likeliest else { throw .logitNotFinite }
        guard options.repetitionPenalty != 1 else { return choose(logits, likeliest: likeliest, &buffers) }
        buffers.copy(logits)
        buffers.withCopy { row in
            // An extreme penalty must not make a logit infinite.
            let limit = Float.greatestFiniteMagnitude
            for id in seen {
                let logit = row[Int(id)]
                let moved = logit > 0 ? logit / options.repetitionPenalty : logit * options.repetitionPenalty
                row[Int(id)] = min(max(moved, -limit), limit)
            }
        }
        let best = buffers.likeliestOfCopy()
        guard options.temperature > 0 else { return Int32(best) }
        return buffers.chooseFromCopy(likeliest: best, options, random: random.next())
    }

    private mutating func choose(_ logits: Span<Float>, likeliest: Int, _ buffers: inout SamplingBuffers) -> Int32 {
        guard options.temperature > 0 else { return Int32(likeliest) }
        return buffers.choose(logits, likeliest: likeliest, options, random: random.next())
    }
}

extension LatheError {
    static let logitNotFinite = LatheError(
        .notFinite, "The model produced a logit that is not finite; this request cannot go on.")
}

/// The `count` likeliest tokens, likeliest first, of equals the smaller id first.
func likeliestTokens(_ logits: Span<Float>, count: Int, logSumExp: Float) -> [TokenLogProbability] {
    guard count > 0 else { return [] }
    if count > 64 {
        // Insertion would take time in proportion to count × vocabulary.
        let order = logits.indices.sorted { logits[$0] > logits[$1] || (logits[$0] == logits[$1] && $0 < $1) }
        return order.prefix(count).map {
            TokenLogProbability(id: Int32($0), logProbability: logits[$0] - logSumExp)
        }
    }
    // A small ordered list with insertion: count is a handful.
    var best: [(id: Int32, logit: Float)] = []
    for index in logits.indices {
        let logit = logits[index]
        if best.count == count && logit <= best[count - 1].logit { continue }
        let place = best.firstIndex { $0.logit < logit } ?? best.count
        best.insert((Int32(index), logit), at: place)
        if best.count > count { best.removeLast() }
    }
    return best.map { TokenLogProbability(id: $0.id, logProbability: $0.logit - logSumExp) }
}
