import LatheFormat

/// The norms of inputs over a text, from the float32 reference. Layers are met in order, each with the inputs that the
/// pruned layers before it give, as wanda's authors do it.
struct ReferenceCalibration: PruningCalibration {
    /// Token ids, each window read by itself from position 0.
    let windows: [[Int32]]
    let threads: Int

    var tokenCount: Int { windows.reduce(0) { $0 + $1.count } }

    func forEachProduct(
        of checkpoint: Checkpoint, _ decide: (_ weight: String, _ norms: [Float]) throws(LatheError) -> WeightMask?
    ) throws(LatheError) {
        let reference = try Reference(checkpoint: checkpoint, threads: threads)
        _ = try reference.run(windows) { layer throws(LatheError) in
            let name = layer.weight.name
            guard let mask = try decide(name, reference.statistics(of: layer.input).norms.map { Float($0) }) else {
                return nil
            }
            // A head comes last: nothing would see the difference.
            if layer.weight.isHead { return nil }
            var weight = try reference.weight(name)
            mask.apply(to: &weight)
            return Reference.LinearReplacement(weight: weight)
        }
    }
}

extension WeightMask {
    /// Makes zero what does not stay.
    func apply(to matrix: inout FloatMatrix) {
        precondition(matrix.elements.count == count)
        var elements = matrix.elements.mutableSpan
        for index in elements.indices where !self[index] { elements[index] = 0 }
    }
}
