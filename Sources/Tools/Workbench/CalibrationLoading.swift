import Lathe
public import LatheCompiler
public import LatheFormat

/// Reads the text that calibrated steps run.
public enum CalibrationLoading {
    /// How many windows of the model's whole context conversions take by default: 64, fewer where they are long. 32768 tokens
    /// are ten for each input of GPT-2's widest layer, and their values there take 400 MB.
    package static func defaultWindows(length: Int) -> Int { min(64, max(1, 32768 / length)) }
    /// What pruning takes by default: memory and time grow with the tokens, while the norms of inputs hardly change.
    public static let defaultPruningTokens = 16_384

    /// Windows of token ids, spread evenly over the text at `text`, and what the recipe says of them.
    ///
    /// - Parameters:
    ///   - windows: how many; nil: `defaultWindows`.
    ///   - length: tokens of a window; nil: the checkpoint's context.
    /// - Throws: among others where the checkpoint has no tokenizer, and where the text is shorter than one window, with
    ///   both counts.
    package static func load(
        checkpoint: String, text: String, windows: Int? = nil, length: Int? = nil
    ) throws(LatheError) -> (windows: [[Int32]], description: Recipe.Calibration) {
        let context = try Checkpoint(path: checkpoint).modelConfiguration().contextLength
        let length = length ?? context
        let bytes = try Files.read(text)
        let tokens = try ModelLoading.loadTokenizer(path: checkpoint).encode(bytes: bytes.array())
        let windows = try CalibrationText.windows(
            tokens: tokens, length: length, count: windows ?? defaultWindows(length: length), source: text)
        return (windows, Recipe.Calibration(text: bytes, windows: windows.count, length: length))
    }

    /// The same for pruning: windows of the checkpoint's context, at least one and at most `tokens` in all.
    ///
    /// - Parameter name: the text's path, for messages.
    public static func windows(
        checkpoint: String, text: [UInt8], name: String, tokens: Int = defaultPruningTokens
    ) throws(LatheError) -> [[Int32]] {
        guard tokens > 0 else {
            throw LatheError(.invalidRequest, "Calibration takes at least one token, not \(tokens).")
        }
        let length = try Checkpoint(path: checkpoint).modelConfiguration().contextLength
        return try CalibrationText.windows(
            tokens: try ModelLoading.loadTokenizer(path: checkpoint).encode(bytes: text), length: length,
            count: max(1, tokens / length), source: name)
    }

    /// Gives `compiler` the text that its recipe's calibrated steps run.
    public static func calibrate(
        _ compiler: inout Compiler, checkpoint: String, text: String
    ) throws(LatheError) {
        let (windows, description) = try load(checkpoint: checkpoint, text: text)
        compiler.calibrationWindows = windows
        compiler.recipe.calibration = description
    }
}
