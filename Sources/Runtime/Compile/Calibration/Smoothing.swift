import LatheFormat

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// SmoothQuant (Xiao et al. 2022, arXiv 2211.10438): an input channel that is far larger than others leaves the others few
/// steps of an 8-bit activation. Dividing it by s, and multiplying its weights by s, changes nothing but the steps.
///
/// The division is free where the input comes from a layer normalization: its scale and shift are divided.
struct Smoothing {
    /// s, [k], positive.
    let factors: [Float]

    /// s(j) = max|X(j)|^α / max|W(j)|^(1−α), 1 where either is 0.
    ///
    /// - Parameters:
    ///   - greatest: max|X(j)|, [k].
    ///   - weights: [n, k].
    init(greatest: [Double], weights: FloatMatrix, alpha: Double) {
        precondition(greatest.count == weights.columns)
        var weightGreatest = [Float](repeating: 0, count: weights.columns)
        let elements = weights.elements.span
        for row in 0..<weights.rows {
            for column in 0..<weights.columns {
                weightGreatest[column] = max(weightGreatest[column], abs(elements[row * weights.columns + column]))
            }
        }
        factors = zip(greatest, weightGreatest).map { input, weight in
            guard input > 0 && weight > 0 else { return 1 }
            let factor = pow(input, alpha) / pow(Double(weight), 1 - alpha)
            // Beyond these a channel is dead on one side, and float32 would lose it on the other.
            return Float(min(max(factor, 1e-6), 1e6))
        }
    }

    /// W·diag(s).
    func applied(to weights: FloatMatrix) -> FloatMatrix { weights.scalingColumns { $0 * factors[$1] } }

    /// Ŵ·diag(1/s): smoothed weights as seen from the layer's own input.
    func undone(_ weights: FloatMatrix) -> FloatMatrix { weights.scalingColumns { $0 / factors[$1] } }

    /// A normalization's scale or shift over s.
    func applied(toNormalization vector: [Float]) -> [Float] { zip(vector, factors).map { $0 / $1 } }

    /// XᵀX of the smoothed inputs.
    func applied(toGram gram: [Double]) -> [Double] {
        let k = factors.count
        return gram.indices.map { gram[$0] / (Double(factors[$0 / k]) * Double(factors[$0 % k])) }
    }
}

extension FloatMatrix {
    fileprivate func scalingColumns(_ body: (Float, Int) -> Float) -> FloatMatrix {
        var result = self
        var elements = result.elements.mutableSpan
        for row in 0..<rows {
            for column in 0..<columns {
                elements[row * columns + column] = body(elements[row * columns + column], column)
            }
        }
        return result
    }
}

extension ModelDefinition {
    /// A layer normalization whose result one linear layer alone multiplies.
    struct FoldableNormalization {
        /// The parameters' names.
        let scale: String
        let shift: String
    }

    /// By the linear layer's weight.
    var foldableNormalizations: [String: FoldableNormalization] {
        let operations = entryPoints.flatMap(\.operations)
        // A parameter that something else uses too must stay as it is.
        var uses: [String: Int] = [:]
        for operation in operations {
            switch operation.kind {
            case .layerNorm(let scale, let shift, _): for name in [scale, shift] { uses[name, default: 0] += 1 }
            case .linear(let weight, _): uses[weight, default: 0] += 1
            case .embed(let table, _): uses[table, default: 0] += 1
            case .slice, .attention, .activation, .add: break
            }
        }
        var result: [String: FoldableNormalization] = [:]
        for entryPoint in entryPoints {
            for normalization in entryPoint.operations {
                guard case .layerNorm(let scale, let shift, _) = normalization.kind else { continue }
                let users = entryPoint.operations.filter { $0.inputs.contains(normalization.output) }
                guard users.count == 1, case .linear(let weight, _) = users[0].kind,
                    !entryPoint.outputs.contains(normalization.output),
                    [scale, shift, weight].allSatisfy({ uses[$0] == 1 })
                else { continue }
                result[weight] = FoldableNormalization(scale: scale, shift: shift)
            }
        }
        return result
    }
}
