import Lathe
public import LatheCompiler
public import LatheFormat

/// Reads the text that calibrated steps run.
public enum CalibrationLoading {
    /// How many windows of the model's whole context are taken by default: 64, fewer where they are long. 32768 tokens are
    /// ten for each input of GPT-2's widest layer, and their values there take 400 MB.
    package static func defaultWindows(length: Int) -> Int { min(64, max(1, 32768 / length)) }

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

    /// Gives `compiler` the text that its recipe's calibrated steps run.
    public static func calibrate(
        _ compiler: inout Compiler, checkpoint: String, text: String
    ) throws(LatheError) {
        let (windows, description) = try load(checkpoint: checkpoint, text: text)
        compiler.calibrationWindows = windows
        compiler.recipe.calibration = description
    }
}
