import LatheFormat

/// How much each weight of a matrix matters, as integers that are ordered as the scores are.
///
/// A score is a float32 that is not negative; its bits as an integer are in the same order. A weight that is zero already
/// has the key 0, and no other has: so existing zeros are always the first to go.
struct WeightScores {
    /// n outputs.
    let rows: Int
    /// k inputs.
    let depth: Int
    /// [rows · depth], row after row, whatever the order in the checkpoint.
    private(set) var keys: [UInt32]

    init(rows: Int, depth: Int, keys: [UInt32]) {
        precondition(keys.count == rows * depth)
        self.rows = rows
        self.depth = depth
        self.keys = keys
    }

    var zeroCount: Int { keys.reduce(0) { $0 + ($1 == 0 ? 1 : 0) } }

    static func key(_ weight: Float, norm: Float) -> UInt32 {
        weight == 0 ? 0 : max(1, (weight.magnitude * norm).bitPattern)
    }

    /// Scores a matrix of the checkpoint: |w|, times the norm of its input where norms are given.
    ///
    /// - Parameter norms: [k], not negative; nil takes each as 1.
    /// - Throws: where a weight is not finite; the message names file, tensor and element.
    init(_ source: WeightSource, norms: [Float]? = nil) throws(LatheError) {
        rows = source.shape[0]
        depth = source.shape[1]
        precondition(norms == nil || norms!.count == depth, "a norm for each input")
        let norms = norms ?? [Float](repeating: 1, count: depth)
        keys = [UInt32](repeating: 0, count: rows * depth)
        // The checkpoint's rows, of which the last dimension is `width` long.
        let (height, width) = source.isTransposed ? (depth, rows) : (rows, depth)
        // Sixteen rows of a transposed matrix at least, so that a cache line of keys is filled at once.
        let step = max(16, (Self.pieceElements / max(1, width)) / 16 * 16)
        for start in stride(from: 0, to: height, by: step) {
            let range = start * width..<min(start + step, height) * width
            let piece = try source.entry.file.floats(of: source.entry.tensor, elements: range).view
            if let bad = piece.firstNotFinite {
                throw LatheError(
                    .notFinite,
                    "\(quoted(source.entry.file.path)): the tensor \(quoted(source.entry.tensor.name)) holds a value that "
                        + "is not finite at element \(range.lowerBound + bad); no score orders such a weight, so repair "
                        + "the checkpoint first.")
            }
            piece.withSpan(of: Float.self) { weights in
                if source.isTransposed {
                    scoreTransposed(weights, firstInput: start, norms: norms)
                } else {
                    scoreRows(weights, at: range.lowerBound, norms: norms)
                }
            }
        }
    }

    private static let pieceElements = 1 << 20

    private mutating func scoreRows(_ weights: Span<Float>, at position: Int, norms: [Float]) {
        let depth = depth
        var keys = keys.mutableSpan
        for row in 0..<weights.count / max(1, depth) {
            let base = row * depth
            for input in 0..<depth {
                keys[position + base + input] = Self.key(weights[base + input], norm: norms[input])
            }
        }
    }

    /// - Parameter weights: [inputs, n], from `firstInput` on.
    private mutating func scoreTransposed(_ weights: Span<Float>, firstInput: Int, norms: [Float]) {
        let (rows, depth) = (rows, depth)
        var keys = keys.mutableSpan
        let inputs = weights.count / max(1, rows)
        for start in stride(from: 0, to: inputs, by: 16) {
            for output in 0..<rows {
                let target = output * depth + firstInput
                for input in start..<min(start + 16, inputs) {
                    keys[target + input] = Self.key(weights[input * rows + output], norm: norms[firstInput + input])
                }
            }
        }
    }
}
