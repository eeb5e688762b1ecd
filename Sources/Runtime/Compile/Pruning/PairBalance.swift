/// Makes both vectors of each pair keep as many weights.
///
/// Panels T16 hold 16 outputs × 4 inputs in a vector of 64; int4 storage of sparse weights writes the vectors of inputs
/// k % 8 < 4 and k % 8 ≥ 4 into the low and high halves of the same bytes (docs/ARITHMETIC.md), so a pair costs as much
/// as its fuller vector. What the pair keeps altogether stays the same; of an odd number one more goes and one fewer in
/// turn. A vector cannot keep more than it has: weights that were zero before, and inputs beyond the depth, stay zero.
enum PairBalance {
    private static let outputs = 16
    private static let inputs = 4

    /// - Returns: of the scores that `mask` kept before, the share that is lost. Where each output has a share of its own it
    ///   may be below zero, because a pair evens out its 16 outputs as well.
    static func balance(_ mask: inout WeightMask, _ scores: WeightScores) -> Double {
        var keptScore = 0.0
        for index in scores.keys.indices where mask[index] { keptScore += score(scores.keys[index]) }
        var lostScore = 0.0
        var roundsUp = false
        for top in stride(from: 0, to: scores.rows, by: outputs) {
            for left in stride(from: 0, to: scores.depth, by: 2 * inputs) {
                let pair = [left, left + inputs].map { vector(scores, top: top, left: $0) }
                let kept = pair.map { vector in vector.reduce(0) { $0 + (mask[$1] ? 1 : 0) } }
                guard kept[0] != kept[1] else { continue }
                let targets = self.targets(kept[0] + kept[1], capacities: pair.map(\.count), roundsUp: &roundsUp)
                for (vector, (before, after)) in zip(pair, zip(kept, targets)) where before != after {
                    lostScore += change(vector, from: before, to: after, scores, &mask)
                }
            }
        }
        return keptScore > 0 ? lostScore / keptScore : 0
    }

    private static func score(_ key: UInt32) -> Double { Double(Float(bitPattern: key)) }

    /// The weights of one vector that were not zero before.
    private static func vector(_ scores: WeightScores, top: Int, left: Int) -> [Int] {
        var indices: [Int] = []
        for row in top..<min(top + outputs, scores.rows) {
            for input in left..<max(left, min(left + inputs, scores.depth)) {
                let index = row * scores.depth + input
                if scores.keys[index] != 0 { indices.append(index) }
            }
        }
        return indices
    }

    /// How many each vector of a pair that keeps `total` is to keep.
    private static func targets(_ total: Int, capacities: [Int], roundsUp: inout Bool) -> [Int] {
        let half = (total + (roundsUp ? 1 : 0)) / 2
        let least = min(capacities[0], capacities[1])
        // One of the two is too small: it keeps all that it has, the other the rest.
        guard half <= least else {
            return capacities[0] < capacities[1] ? [least, total - least] : [total - least, least]
        }
        if total % 2 != 0 { roundsUp.toggle() }
        return [half, half]
    }

    /// Takes the least that are kept, or gives back the greatest that are not, until `count` are kept.
    ///
    /// - Returns: what the kept scores lose by it; negative where more are kept than before.
    private static func change(
        _ vector: [Int], from before: Int, to count: Int, _ scores: WeightScores, _ mask: inout WeightMask
    ) -> Double {
        let isTaking = count < before
        // As everywhere, the first of equals goes, and so the last of them comes back.
        var order = vector.filter { mask[$0] == isTaking }.sorted { (scores.keys[$0], $0) < (scores.keys[$1], $1) }
        if !isTaking { order.reverse() }
        var lost = 0.0
        for index in order.prefix(abs(count - before)) {
            lost += isTaking ? score(scores.keys[index]) : -score(scores.keys[index])
            mask[index] = !isTaking
        }
        return lost
    }
}
