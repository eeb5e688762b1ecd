/// Makes both vectors of each pair keep as many weights.
///
/// Panels T16 hold 16 outputs × 4 inputs in a vector of 64; int4 storage of sparse weights writes the vectors of inputs
/// k % 8 < 4 and k % 8 ≥ 4 into the low and high halves of the same bytes (docs/ARITHMETIC.md), so a pair costs as much
/// as its fuller vector. What the pair keeps altogether stays the same; of an odd number one more goes and one fewer in
/// turn. A vector cannot keep more than it has: weights that were zero before, and inputs beyond the depth, stay zero.
///
/// Slices of a matrix come in order, each of whole panels.
struct PairBalance {
    private static let outputs = 16
    private static let inputs = 4

    private var keptScore = 0.0
    private var lostScore = 0.0
    private var roundsUp = false

    /// Of the scores that the masks kept before, the share that is lost. Where each output has a share of its own it may be
    /// below zero, because a pair evens out its 16 outputs as well.
    var loss: Double { keptScore > 0 ? lostScore / keptScore : 0 }

    /// - Parameter first: the weight of the matrix that the scores begin with.
    mutating func balance(_ mask: inout WeightMask, _ scores: WeightScores, at first: Int = 0) {
        for index in 0..<scores.count where mask[first + index] { keptScore += Self.score(scores[index]) }
        for top in stride(from: 0, to: scores.rows, by: Self.outputs) {
            for left in stride(from: 0, to: scores.depth, by: 2 * Self.inputs) {
                let pair = [left, left + Self.inputs].map { Self.vector(scores, top: top, left: $0) }
                let kept = pair.map { vector in vector.reduce(0) { $0 + (mask[first + $1] ? 1 : 0) } }
                guard kept[0] != kept[1] else { continue }
                let targets = Self.targets(kept[0] + kept[1], capacities: pair.map(\.count), roundsUp: &roundsUp)
                for (vector, (before, after)) in zip(pair, zip(kept, targets)) where before != after {
                    lostScore += Self.change(vector, from: before, to: after, scores, at: first, &mask)
                }
            }
        }
    }

    private static func score(_ key: UInt32) -> Double { Double(Float(bitPattern: key)) }

    /// The weights of one vector that were not zero before.
    private static func vector(_ scores: WeightScores, top: Int, left: Int) -> [Int] {
        var indices: [Int] = []
        for row in top..<min(top + outputs, scores.rows) {
            for input in left..<max(left, min(left + inputs, scores.depth)) {
                let index = row * scores.depth + input
                if scores[index] != 0 { indices.append(index) }
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
        _ vector: [Int], from before: Int, to count: Int, _ scores: WeightScores, at first: Int,
        _ mask: inout WeightMask
    ) -> Double {
        let isTaking = count < before
        // As everywhere, the first of equals goes, and so the last of them comes back.
        var order = vector.filter { mask[first + $0] == isTaking }.sorted { (scores[$0], $0) < (scores[$1], $1) }
        if !isTaking { order.reverse() }
        var lost = 0.0
        for index in order.prefix(abs(count - before)) {
            lost += isTaking ? score(scores[index]) : -score(scores[index])
            mask[first + index] = !isTaking
        }
        return lost
    }
}
