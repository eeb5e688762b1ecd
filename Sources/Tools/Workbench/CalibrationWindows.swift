import Lathe
import LatheCompiler
public import LatheFormat

/// Cuts a text into the windows that a calibrated step looks at.
public enum CalibrationWindows {
    /// As many as 16 windows of 1024: memory and time grow with the tokens, while the norms of inputs hardly change.
    public static let defaultTokens = 16_384

    /// Windows of the context's length, spread evenly over `text`.
    ///
    /// - Parameters:
    ///   - checkpoint: the folder whose tokenizer and context are used.
    ///   - name: the text's path, for messages.
    ///   - tokens: how many at most; at least one window is taken.
    /// - Throws: where the checkpoint has no tokenizer, and where the text is shorter than one window, with both counts.
    public static func load(
        checkpoint: String, text: [UInt8], name: String, tokens: Int = defaultTokens
    ) throws(LatheError) -> [[Int32]] {
        guard tokens > 0 else {
            throw LatheError(.invalidRequest, "Calibration takes at least one token, not \(tokens).")
        }
        let length = try Checkpoint(path: checkpoint, access: .read).contextLength
        let ids = try ModelLoading.loadTokenizer(path: checkpoint).encode(bytes: text)
        return try CalibrationText.windows(
            tokens: ids, length: length, count: max(1, tokens / length), source: name)
    }
}
