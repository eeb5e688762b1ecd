import LatheFormat

/// How much each weight of a matrix matters, as integers that are ordered as the scores are.
///
/// A score is a float32 that is not negative; its bits as an integer are in the same order. A weight that is zero already
/// has the key 0, and no other has: so existing zeros are always the first to go.
struct WeightScores {
    /// n outputs: of the matrix, or of a slice of it.
    let rows: Int
    /// k inputs.
    let depth: Int
    /// [rows · depth], row after row, whatever the order in the checkpoint.
    private let keys: AlignedBuffer
    private let view: ByteView

    init(rows: Int, depth: Int, keys: [UInt32]) {
        precondition(keys.count == rows * depth)
        self.rows = rows
        self.depth = depth
        self.keys = AlignedBuffer(copying: keys)
        view = self.keys.view
    }

    var count: Int { rows * depth }

    subscript(index: Int) -> UInt32 { view.load(index, as: UInt32.self) }

    func withKeys<R>(_ body: (Span<UInt32>) -> R) -> R { view.withSpan(of: UInt32.self, body) }

    var zeroCount: Int {
        withKeys { keys in
            var count = 0
            for index in keys.indices { count += keys[index] == 0 ? 1 : 0 }
            return count
        }
    }

    static func key(_ weight: Float, norm: Float) -> UInt32 {
        weight == 0 ? 0 : max(1, (weight.magnitude * norm).bitPattern)
    }

    /// Scores some outputs of a matrix of the checkpoint: |w|, times the norm of its input where norms are given.
    ///
    /// - Parameter norms: [k], not negative; nil takes each as 1.
    /// - Throws: where a weight is not finite; the message names file, tensor and element.
    init(
        _ source: WeightSource, outputs: Range<Int>, norms: [Float]? = nil, ledger: MemoryLedger
    ) throws(LatheError) {
        rows = outputs.count
        depth = source.shape[1]
        precondition(norms == nil || norms!.count == depth, "a norm for each input")
        let norms = norms ?? [Float](repeating: 1, count: depth)
        let tensor = source.entry.tensor
        keys = try ledger.buffer(rows * depth * 4, .windows, for: "the scores of \(quoted(tensor.name))")
        view = keys.view
        // The checkpoint's rows: inputs of a transposed matrix, else outputs.
        let range = source.isTransposed ? 0..<depth : outputs
        let step = Self.rowsInPiece(width: source.isTransposed ? rows : depth)
        for start in stride(from: range.lowerBound, to: range.upperBound, by: step) {
            let part = start..<min(start + step, range.upperBound)
            let columns = source.isTransposed ? outputs : 0..<depth
            let piece = try source.entry.file.floats(of: tensor, rows: part, columns: columns, ledger: ledger).view
            if let bad = piece.firstNotFinite {
                let element =
                    (part.lowerBound + bad / columns.count) * tensor.shape[1] + columns.lowerBound + bad % columns.count
                throw LatheError(
                    .notFinite,
                    "\(quoted(source.entry.file.path)): the tensor \(quoted(tensor.name)) holds a value that is not finite "
                        + "at element \(element); no score orders such a weight, so repair the checkpoint first.")
            }
            let first = start - range.lowerBound
            piece.withSpan(of: Float.self) { weights in
                if source.isTransposed {
                    scoreTransposed(weights, firstInput: first, norms: norms)
                } else {
                    scoreRows(weights, at: first * depth, norms: norms)
                }
            }
        }
    }

    private static let pieceElements = 1 << 20

    /// Sixteen rows of a transposed matrix at least, so that a cache line of keys is filled at once.
    private static func rowsInPiece(width: Int) -> Int { max(16, (pieceElements / max(1, width)) / 16 * 16) }

    /// Bytes that scoring so many outputs takes at its peak.
    static func byteCount(_ source: WeightSource, outputs: Int) -> Int {
        let (count, depth) = (min(outputs, source.shape[0]), source.shape[1])
        let (height, width) = source.isTransposed ? (depth, count) : (count, depth)
        return count * depth * 4 + min(height, rowsInPiece(width: width)) * width * 4
            + SafetensorsFile.floatWindowByteCount(
                of: source.entry.tensor, isPartial: source.isTransposed && count < source.shape[0])
    }

    private func scoreRows(_ weights: Span<Float>, at position: Int, norms: [Float]) {
        keys.withMutableSpan(of: UInt32.self) { keys in
            for row in 0..<weights.count / max(1, depth) {
                let base = row * depth
                for input in 0..<depth {
                    keys[position + base + input] = Self.key(weights[base + input], norm: norms[input])
                }
            }
        }
    }

    /// - Parameter weights: [inputs, n], from `firstInput` on.
    private func scoreTransposed(_ weights: Span<Float>, firstInput: Int, norms: [Float]) {
        let inputs = weights.count / max(1, rows)
        keys.withMutableSpan(of: UInt32.self) { keys in
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
}
