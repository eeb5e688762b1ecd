package import LatheFormat

/// Cuts a text into windows for calibration.
package enum CalibrationText {
    /// `count` windows of `length` tokens, spread evenly over `tokens` from its first token to its last; where the text
    /// holds fewer without overlap, as many as it holds. The same tokens give the same windows.
    ///
    /// - Parameter source: what the text is called in a message: its path.
    /// - Throws: `invalidRequest` where the text is shorter than one window, with both counts.
    package static func windows(
        tokens: [Int32], length: Int, count: Int, source: String = "The calibration text"
    ) throws(LatheError) -> [[Int32]] {
        guard length >= 1 && count >= 1 else {
            throw LatheError(
                .invalidRequest,
                "Calibration takes at least one window of at least one token, not \(count) of \(length).")
        }
        guard tokens.count >= length else {
            throw LatheError(
                .invalidRequest,
                "\(source) has \(tokens.count) tokens, but a calibration window takes \(length); give a longer text or "
                    + "ask for shorter windows.")
        }
        let count = min(count, tokens.count / length)
        let room = tokens.count - length
        return (0..<count).map { index in
            let start = count == 1 ? 0 : room * index / (count - 1)
            return Array(tokens[start..<start + length])
        }
    }
}
