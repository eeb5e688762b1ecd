public import ArgumentParser
import Lathe
public import LatheCompiler
import LatheFormat
import LatheWorkbench

/// What a conversion does to the weights: the recipe, as options.
struct RecipeArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "How the weights of linear layers are stored; with int4 the embedding and the head stay int8.",
            valueName: "format"))
    var weights: WeightFormats = .int8

    @Option(
        help: ArgumentHelp(
            "Weights of an output that share a multiplier in int4: 32, 64 or 128. (default: 64)", valueName: "n"))
    var groupSize: Int?

    @Option(
        help: ArgumentHelp(
            "Whether linear layers leave their zeros out; auto does where that is smaller.", valueName: "auto|on|off"))
    var sparse: SparseStorage = .auto

    @Option(
        name: .customLong("override"), parsing: .singleValue,
        help: ArgumentHelp(
            "A format for the matrices that a pattern means, as lm_head=int4:g32 or c_proj=int8:dense; the last match "
                + "decides.", valueName: "pattern=format"))
    var overrides: [String] = []

    @Option(
        help: ArgumentHelp(
            "Bits to which a quantized head's inputs are rounded: 8 or 16. (default: 16)", valueName: "bits"))
    var headActivations: Int?

    @Option(
        help: ArgumentHelp(
            "How numbers are found: rtn rounds each weight, gptq lets each make up for those before it.",
            valueName: "rtn|gptq"))
    var method: Recipe.Method = .roundToNearest

    @Option(
        help: ArgumentHelp("A text for gptq, smoothing and bias correction to look at.", valueName: "path"),
        completion: .file())
    var calibration: String?

    @Option(
        help: ArgumentHelp(
            "Move outliers from activations into weights (SmoothQuant), by this exponent: 0.5 to 0.7.",
            valueName: "alpha"))
    var smooth: Double?

    @Flag(help: "Let biases make up for the mean error of quantized weights.")
    var biasCorrection = false

    func validate() throws {
        let recipe = try recipe()
        if groupSize != nil, recipe.weights != .int4, !recipe.overrides.contains(where: { $0.format.weights == .int4 })
        {
            throw ValidationError("--group-size is of int4: add --weights int4 or an override to int4.")
        }
        if recipe.needsCalibration && calibration == nil {
            throw ValidationError(
                "--method gptq, --smooth and --bias-correction look at a text: add --calibration TEXT.")
        }
        if calibration != nil && !recipe.needsCalibration {
            throw ValidationError(
                "--calibration is for --method gptq, --smooth and --bias-correction: add one of them, or leave it out.")
        }
        if recipe.weights == .float32, recipe.overrides.isEmpty, sparse == .on {
            throw ValidationError("--sparse on is of int8 and int4: f32 is stored dense.")
        }
    }

    /// Without `calibration`, which is known when the text has been read.
    func recipe() throws -> Recipe {
        var recipe = Recipe(weights: weights, groupSize: groupSize ?? Recipe.defaultGroupSize, sparse: sparse)
        recipe.headActivationBits = headActivations ?? recipe.headActivationBits
        recipe.method = method
        recipe.smooth = smooth
        recipe.correctsBias = biasCorrection
        do throws(LatheError) {
            for text in overrides { recipe.overrides.append(try Recipe.Override(parsing: text)) }
            try recipe.check()
        } catch {
            throw ValidationError(error.message)
        }
        return recipe
    }

    func makeCompiler(checkpoint: String, threads: Int?) throws -> Compiler {
        var compiler = Compiler(recipe: try recipe(), threads: try ThreadCount(requested: threads).count)
        if let calibration { try CalibrationLoading.calibrate(&compiler, checkpoint: checkpoint, text: calibration) }
        return compiler
    }
}

extension SparseStorage: ExpressibleByArgument {}
extension Recipe.Method: ExpressibleByArgument {}
