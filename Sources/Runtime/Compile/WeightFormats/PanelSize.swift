import LatheFormat

/// What the parts of an encoded matrix, or of some of its panels, take in memory, in bytes.
struct PanelSize {
    /// Of 16 outputs each.
    let panels: Int
    let values: Int
    let multipliers: Int
    let scales: Int
    let sums: Int
    /// One `EncodingError` for each panel.
    let errors: Int
    /// What one thread needs to measure what rounding cost.
    let expanded: Int
    /// Of the same panels without their zeros.
    let masks: Int
    let starts: Int

    init(columns: Int, depth: Int, encoding: WeightEncoding) {
        panels = columns.roundedUp(to: 16) / 16
        guard let format = encoding.quantized else {
            values = panels * 16 * depth * 4
            (multipliers, scales, sums, errors, expanded, masks, starts) = (0, 0, 0, 0, 0, 0, 0)
            return
        }
        let paddedDepth = depth.roundedUp(to: 64)
        let groups = format.groupSize.map { (paddedDepth + $0 - 1) / $0 } ?? 0
        values = panels * paddedDepth * (groups > 0 ? 8 : 16)
        multipliers = panels * 16 * groups
        scales = panels * 16 * 4
        sums = panels * 16 * 4
        errors = panels * MemoryLayout<EncodingError>.stride
        expanded = groups > 0 ? 16 * paddedDepth : 0
        masks = panels * paddedDepth * 2
        starts = panels * 4
    }

    /// What an `EncodedMatrix` holds.
    var encoded: Int { values + numbers }
    /// What stands beside the values.
    var numbers: Int { multipliers + scales + sums + errors }
}
