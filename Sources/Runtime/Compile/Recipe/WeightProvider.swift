package import LatheFormat

/// Weights that stand in for those of the checkpoint: smoothed, compensated, with corrected biases.
///
/// Asked once for each parameter, in the order of the file.
package protocol WeightProvider {
    /// nil: as the checkpoint has it.
    func matrix(_ name: String) throws(LatheError) -> ProvidedMatrix?
    /// The elements of a vector, or of a table of rows; nil: as the checkpoint has them.
    func rows(_ name: String) throws(LatheError) -> [Float]?
}

package enum ProvidedMatrix: Sendable {
    /// [n, k], to be encoded as the recipe says.
    /// - importance: [k], how much an error of each input's weights counts; nil: all alike.
    case weights(FloatMatrix, importance: [Float]? = nil)
    /// Dense, in the encoding that the recipe says; whether zeros are left out is decided later.
    case encoded(EncodedMatrix)
}

/// What a recipe's calibrated steps start from.
struct WeightPreparation {
    let recipe: Recipe
    let plan: RecipePlan
    let checkpoint: Checkpoint
    let definition: ModelDefinition
    /// Token ids of the calibration text; empty where there is none.
    let windows: [[Int32]]
    let threads: Int

    /// Carries the calibrated steps out; nil where the recipe has none.
    func makeProvider(progress: (Compiler.Progress) -> Void) throws(LatheError) -> (any WeightProvider)? {
        guard recipe.needsCalibration else { return nil }
        guard !windows.isEmpty else {
            throw LatheError(
                .invalidRequest,
                "The recipe has steps that look at a text run through the model; give one with --calibration.")
        }
        let total = definition.weights.reduce(0) { $0 + $1.entry.tensor.byteCount }
        return try CalibratedWeights(
            recipe, formats: plan.formats, definition: definition,
            reference: try Reference(checkpoint: checkpoint, threads: threads), windows: windows
        ) { fraction, layer in
            progress(
                .init(
                    tensor: "calibrating \(layer)", completedBytes: min(Int(fraction * Double(total)), total - 1),
                    totalBytes: total))
        }
    }
}
