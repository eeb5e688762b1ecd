import Lathe
import LatheCompiler
public import LatheFormat

/// Runs `lathe` with these arguments as a process of its own and gives what it printed, so that memory is that of one
/// process with one model.
public typealias LatheProcess = @Sendable ([String]) throws(LatheError) -> [UInt8]

/// Makes recipes' files and measures them, by the same calls as `lathe prune`, `quantize`, `evaluate` and `bench`.
final class RecipeWorkshop {
    private let checkpoint: String
    private let calibration: String?
    private let threads: Int
    /// Where files in the making lie; removed with the workshop.
    private let folder: String
    private let runLathe: LatheProcess
    private let reference: EvaluationReference
    private let text: EvaluationText
    let windows: EvaluationWindows
    /// The pruned checkpoint that lies there, for the recipes that follow.
    private var pruned: (options: JSON, path: String)?

    init(
        checkpoint: String, text: String, maximumTokens: Int?, calibration: String?, threads: Int?, folder: String,
        runLathe: @escaping LatheProcess
    ) throws(LatheError) {
        self.checkpoint = checkpoint
        self.calibration = calibration
        self.threads = try ThreadCount(requested: threads).count
        self.folder = folder
        self.runLathe = runLathe
        reference = try EvaluationReference(checkpoint: checkpoint, threads: threads)
        self.text = try EvaluationText(
            try Files.read(text).array(), tokenizer: try ModelLoading.loadTokenizer(path: checkpoint), source: text,
            maximumTokens: maximumTokens)
        windows = try EvaluationWindows(
            length: nil, stride: nil,
            contextLength: try Checkpoint(path: checkpoint, access: .read).contextLength)
        Self.remove(folder)
        try Files.createDirectory(folder)
    }

    deinit { Self.remove(folder) }

    private static func remove(_ folder: String) {
        Files.removeFolder("\(folder)/pruned")
        Files.removeFolder(folder)
    }

    /// A recipe's `.lathe` file, until the next one is made.
    struct Product {
        let path: String
        var fileBytes = 0
        /// Of all matrices' weights.
        var sparsity = 0.0
    }

    func make(_ recipe: SweepRecipe, progress: (Compiler.Progress) -> Void) throws(LatheError) -> Product {
        let source = try source(of: recipe, progress: progress)
        var compiler = Compiler(recipe: recipe.recipe, threads: threads)
        if recipe.recipe.needsCalibration {
            try CalibrationLoading.calibrate(&compiler, checkpoint: source, text: try calibrationText(recipe))
        }
        let path = "\(folder)/candidate.lathe"
        let report = try compiler.compile(checkpoint: source, output: path, progress: progress)
        let matrices = report.tensors.filter { $0.shape.count == 2 }
        let counts = matrices.map { Double($0.shape.reduce(1, *)) }
        let zeros = zip(matrices, counts).reduce(0) { $0 + $1.0.sparsity * $1.1 }
        return Product(path: path, fileBytes: report.bytesAfter, sparsity: zeros / max(1, counts.reduce(0, +)))
    }

    private func source(
        of recipe: SweepRecipe, progress: (Compiler.Progress) -> Void
    ) throws(LatheError) -> String {
        guard let pruning = recipe.pruning else { return checkpoint }
        let options = SweepRecipe(name: "", pruning: pruning, recipe: Recipe()).json()
        if let pruned, pruned.options == options { return pruned.path }
        let path = "\(folder)/pruned"
        Files.removeFolder(path)
        pruned = nil
        var windows: [[Int32]] = []
        if pruning.criterion == .wanda {
            let text = try calibrationText(recipe)
            windows = try CalibrationWindows.load(
                checkpoint: checkpoint, text: try Files.read(text).array(), name: text)
        }
        _ = try Pruner(pruning).prune(
            checkpoint: checkpoint, output: path, calibration: windows, threads: threads, progress: progress)
        pruned = (options, path)
        return path
    }

    private func calibrationText(_ recipe: SweepRecipe) throws(LatheError) -> String {
        guard let calibration else {
            throw LatheError(
                .invalidRequest, "The recipe \(quoted(recipe.name)) looks at a text: add --calibration TEXT.")
        }
        return calibration
    }

    func quality(of product: Product, progress: (Double) -> Void) async throws -> QualityFigures {
        var options = EngineOptions()
        options.threads = threads
        let model = try Model.open(product.path, verify: false)
        let result = try await Evaluation(windows: windows, options: options).measure(
            model, on: text, against: reference, progress: progress)
        return QualityFigures(result, result.comparison!)
    }

    /// The file that `keepAsBest` kept.
    var best: Product { Product(path: "\(folder)/best.lathe") }

    /// Keeps the file made last.
    func keepAsBest() throws(LatheError) { try Files.move("\(folder)/candidate.lathe", to: best.path) }

    /// - Parameter shape: further arguments of `lathe bench`.
    func speed(of product: Product, shape: [String]) throws(LatheError) -> SpeedFigures {
        let output = try runLathe(["bench", "--model", product.path, "--json"] + shape)
        let source = "the output of lathe bench"
        return try SpeedFigures(json: try JSON.parse(output, source: source).object(at: source), source: source)
    }

    func linearLayers() throws(LatheError) -> [Reference.LinearWeight] {
        try Reference(checkpoint: try Checkpoint(path: checkpoint, access: .read), threads: threads).linearWeights
    }

    /// What results depend on beside the recipe: the checkpoint's files, the text, the calibration text.
    func inputsHash() throws(LatheError) -> String {
        var hash = XXH64()
        let inputs = try Checkpoint(path: checkpoint, access: .read).inputPaths.filter(Files.exists)
        for path in inputs + [calibration].compactMap({ $0 }) {
            let file = try InputFile.open(path: path)
            let window = 8 << 20
            for offset in stride(from: 0, to: file.byteCount, by: window) {
                hash.update(try file.read(offset: offset, count: min(window, file.byteCount - offset)).view)
            }
            // So that no byte can change from one file into its neighbour unseen.
            hash.update(ByteView(copying: Array("\(file.byteCount);".utf8)))
        }
        hash.update(text.tokenBytes)
        return hexadecimal(hash.digest())
    }
}
