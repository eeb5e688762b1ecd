import CKernels
import LatheFormat

/// Memory for one choice, shared by all requests of an engine: 24 bytes for each token of the vocabulary. What no choice
/// has needed yet is address space alone.
struct SamplingBuffers {
    fileprivate var penalized: [Float] = []
    fileprivate var ranked: RankedKeys
    /// Of the keys in `ranked`, in their order.
    fileprivate var probabilities: [Float] = []

    /// What they take for a vocabulary, for whoever plans memory.
    static func byteCount(vocabularySize: Int) -> Int {
        vocabularySize * 2 * MemoryLayout<Float>.stride + RankedKeys.byteCount(capacity: vocabularySize)
    }

    init(vocabularySize: Int) {
        penalized.reserveCapacity(vocabularySize)
        ranked = RankedKeys(capacity: vocabularySize)
        probabilities.reserveCapacity(vocabularySize)
    }
}

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
        // Out of the buffers while they are handed on: two owners of one array would be a copy.
        var penalized: [Float] = []
        swap(&penalized, &buffers.penalized)
        defer { swap(&penalized, &buffers.penalized) }
        penalized.removeAll(keepingCapacity: true)
        for index in logits.indices { penalized.append(logits[index]) }
        // An extreme penalty must not make a logit infinite.
        let limit = Float.greatestFiniteMagnitude
        for id in seen {
            let logit = penalized[Int(id)]
            let moved = logit > 0 ? logit / options.repetitionPenalty : logit * options.repetitionPenalty
            penalized[Int(id)] = min(max(moved, -limit), limit)
        }
        var best = 0
        for index in penalized.indices where penalized[index] > penalized[best] { best = index }
        return choose(penalized.span, likeliest: best, &buffers)
    }

    private mutating func choose(_ logits: Span<Float>, likeliest: Int, _ buffers: inout SamplingBuffers) -> Int32 {
        guard options.temperature > 0 else { return Int32(likeliest) }
        gather(logits, best: logits[likeliest], &buffers)
        let (count, total) = truncateByProbability(buffers.probabilities)
        let target = random.next() * total
        var sum: Float = 0
        for place in 0..<count {
            sum += buffers.probabilities[place]
            if sum > target { return Int32(truncatingIfNeeded: buffers.ranked.keys[place]) }
        }
        return Int32(truncatingIfNeeded: buffers.ranked.keys[count - 1])
    }

    /// Collects the tokens that may be drawn at all in their order, at most top-k of them, by their logits relative to the
    /// best and divided by the temperature (so that no temperature overflows; logits that become equal then stand by id);
    /// and what those logits are the logarithms of.
    ///
    /// exp(−18) is below 2⁻²⁵. Added to a sum that is 1 at least it rounds to nothing, so leaving such a token out
    /// changes no sum, and saves ordering most of the vocabulary.
    private func gather(_ logits: Span<Float>, best: Float, _ buffers: inout SamplingBuffers) {
        buffers.ranked.removeAll()
        let floor = best - 18 * options.temperature
        for index in logits.indices where logits[index] >= floor {
            // Never above zero, so a larger magnitude is a lesser logit; and the bits of magnitudes ascend as they do.
            let logit = (logits[index] - best) / options.temperature
            buffers.ranked.append(rank: logit.magnitude.bitPattern, id: UInt32(index))
        }
        buffers.ranked.sort()
        buffers.probabilities.removeAll(keepingCapacity: true)
        for key in buffers.ranked.keys.prefix(options.topK ?? .max) {
            let logit = -Float(bitPattern: UInt32(truncatingIfNeeded: key >> 32))
            buffers.probabilities.append(lathe_exp(logit))
        }
    }

    /// Applies top-p, then min-p, as Hugging Face orders them.
    ///
    /// - Returns: how many of the first are left, and their sum.
    private func truncateByProbability(_ probabilities: [Float]) -> (count: Int, sum: Float) {
        let total = probabilities.reduce(0, +)
        var (kept, keptSum) = (probabilities.count, total)
        if let topP = options.topP, topP < 1 {
            var sum: Float = 0
            for (rank, probability) in probabilities.enumerated() {
                sum += probability
                if sum >= topP * total {
                    (kept, keptSum) = (rank + 1, sum)
                    break
                }
            }
        }
        if let minP = options.minP, minP > 0 {
            // The likeliest token has probability exp(0) = 1 here.
            if let first = probabilities[..<kept].firstIndex(where: { $0 < minP }) {
                kept = max(1, first)
                keptSum = probabilities[..<kept].reduce(0, +)
            }
        }
        return (kept, keptSum)
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
