/// Checks of one quantized parameter what kernels rely on without looking: the numbers that scale its weights, and where a
/// sparse panel's bytes begin. Masks are read whole (an eighth of the weights' number in bytes); other weights are not.
struct QuantizedScan {
    private let parameter: Parameter
    private let panels: QuantizedPanels
    private let file: ModelFile
    private let parts: [WeightEncoding.Part]

    init(_ parameter: Parameter, _ panels: QuantizedPanels, in file: ModelFile) {
        self.parameter = parameter
        self.panels = panels
        self.file = file
        parts = parameter.parts
    }

    func run() throws(LatheError) {
        try checkScales(parts[1])
        var next = 3
        if let groupSize = panels.groupSize {
            try checkMultipliers(parts[next], groupSize: groupSize)
            next += 1
        }
        if let byteCount = panels.packedByteCount {
            try checkStarts(masks: parts[next], starts: parts[next + 1], packedByteCount: byteCount)
        }
    }

    private func fail(_ part: WeightEncoding.Part, _ what: String) -> LatheError {
        LatheError(.corrupt, "\(file.path): `\(part.name)` \(what); convert the checkpoint again.")
    }

    private func checkScales(_ part: WeightEncoding.Part) throws(LatheError) {
        let scales = try file.bytes(of: part)
        for index in 0..<parameter.columns {
            let scale = scales.load(index, as: Float.self)
            guard scale.isFinite && scale > 0 else {
                throw fail(part, "holds the scale \(scale) at \(index)")
            }
        }
    }

    /// ±1…15, so that no product with q in −8…7 leaves int8. [n/16][groups][16]; columns of padding count for nothing.
    private func checkMultipliers(_ part: WeightEncoding.Part, groupSize: Int) throws(LatheError) {
        let groups = (parameter.depth.roundedUp(to: 64) + groupSize - 1) / groupSize
        let columns = parameter.columns
        let bad = try file.bytes(of: part).withSpan(of: Int8.self) { multipliers -> Int? in
            for row in 0..<(columns + 15) / 16 * groups {
                let count = min(16, columns - row / groups * 16)
                for index in row * 16..<row * 16 + count where !(1...15).contains(multipliers[index].magnitude) {
                    return index
                }
            }
            return nil
        }
        guard let bad else { return }
        let (panel, group) = (bad / (groups * 16), bad / 16 % groups)
        throw fail(
            part, "holds a multiplier outside ±1…15 in panel \(panel), group \(group), column \(panel * 16 + bad % 16)")
    }

    /// Each panel starts where the masks say that the one before has ended, and 64 bytes follow the last: a kernel that
    /// goes by the masks never reads outside the packed values.
    private func checkStarts(
        masks: WeightEncoding.Part, starts: WeightEncoding.Part, packedByteCount: Int
    ) throws(LatheError) {
        let starts = (part: starts, bytes: try file.bytes(of: starts))
        let isPaired = panels.groupSize != nil
        let wordsPerPanel = masks.shape[1]
        let masks = try file.bytes(of: masks)
        var end = 0
        for panel in 0..<masks.count / 8 / wordsPerPanel {
            let start = Int(starts.bytes.load(panel, as: UInt32.self))
            guard start == end else {
                throw fail(
                    starts.part, "says that panel \(panel) begins at byte \(start), but by the masks it is \(end)")
            }
            end += masks.slice(offset: panel * wordsPerPanel * 8, count: wordsPerPanel * 8).withSpan(of: UInt64.self) {
                isPaired ? Self.pairedByteCount($0) : Self.byteCount($0)
            }
        }
        guard end + 64 <= packedByteCount else {
            throw fail(
                parts[0],
                "has \(packedByteCount) bytes; by the masks its panels take \(end), and 64 bytes must follow")
        }
    }

    /// int8: a byte for each set bit.
    private static func byteCount(_ masks: Span<UInt64>) -> Int {
        var count = 0
        for index in masks.indices { count += masks[index].nonzeroBitCount }
        return count
    }

    /// int4: two vectors share bytes, as many as the fuller one needs.
    private static func pairedByteCount(_ masks: Span<UInt64>) -> Int {
        var count = 0
        for pair in 0..<masks.count / 2 {
            count += max(masks[2 * pair].nonzeroBitCount, masks[2 * pair + 1].nonzeroBitCount)
        }
        return count
    }
}
