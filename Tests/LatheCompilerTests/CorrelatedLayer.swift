import LatheFormat

@testable import LatheCompiler

/// A layer whose inputs have much in common, as those of a language model do: two directions common to all, channels of
/// unequal size, one of them far out, and means that are not zero.
struct CorrelatedLayer {
    private(set) var weights: FloatMatrix
    /// [rows, inputs]
    private(set) var input: FloatMatrix

    init(outputs: Int, inputs: Int, rows: Int, seed: UInt64) {
        var random = SplitMix64(seed: seed)
        func normal() -> Float {
            (0..<12).reduce(Float(-6)) { sum, _ in sum + Float.random(in: 0..<1, using: &random) }
        }
        weights = FloatMatrix(
            rows: outputs, columns: inputs, elements: (0..<outputs * inputs).map { _ in normal() * 0.1 })
        let directions = (0..<2 * inputs).map { _ in normal() }
        let sizes = (0..<inputs).map { $0 == inputs / 3 ? 12 : 0.3 + abs(normal()) }
        let means = (0..<inputs).map { _ in normal() * 0.5 }
        input = FloatMatrix(rows: rows, columns: inputs)
        for row in 0..<rows {
            let common = (normal(), normal())
            for column in 0..<inputs {
                let shared = common.0 * directions[column] + common.1 * directions[inputs + column]
                input[row, column] = sizes[column] * (shared + 0.5 * normal() + means[column])
            }
        }
    }

    /// Sets weights to zero: every other one of each output, beginning with its number's parity.
    mutating func pruneEveryOther() {
        for row in 0..<weights.rows {
            for column in stride(from: row % 2, to: weights.columns, by: 2) { weights[row, column] = 0 }
        }
    }

    mutating func silence(input column: Int) {
        for row in 0..<input.rows { input[row, column] = 0 }
    }

    /// XᵀX in float64.
    var gram: [Double] {
        let k = input.columns
        var result = [Double](repeating: 0, count: k * k)
        for row in 0..<input.rows {
            let x = input.elements[row * k..<(row + 1) * k].map { Double($0) }
            for i in 0..<k {
                for j in 0..<k { result[i * k + j] += x[i] * x[j] }
            }
        }
        return result
    }

    /// ‖X(W − Ŵ)ᵀ‖².
    func outputError(_ replacement: FloatMatrix) -> Double {
        let k = input.columns
        var total = 0.0
        for row in 0..<input.rows {
            for output in 0..<weights.rows {
                var sum = 0.0
                for column in 0..<k {
                    let difference = Double(weights[output, column]) - Double(replacement[output, column])
                    sum += Double(input[row, column]) * difference
                }
                total += sum * sum
            }
        }
        return total
    }
}

/// The rounding that the paper describes, as it is derived: after each input, the inverse of what is left of H is taken
/// anew (Frantar et al. 2022, arXiv 2210.17323, equations 2 and 3), in float64.
struct StraightforwardOBQ {
    let values: [Int8]

    init(_ layer: CorrelatedLayer, grid: WeightGrid, multipliers: [Int8]) {
        let weights = layer.weights
        let k = weights.columns
        var hessian = layer.gram
        let mean = (0..<k).reduce(0.0) { $0 + hessian[$1 * k + $1] } / Double(k)
        for j in 0..<k { hessian[j * k + j] += 0.01 * mean }
        let groups = grid.groups(inputs: k)
        var w = weights.elements.map { Double($0) }
        var values = [Int8](repeating: 0, count: w.count)
        // The first row of the inverse of H restricted to the inputs j….
        let inverses = (0..<k).map { Self.firstRowOfInverse(hessian, from: $0, order: k) }
        for row in 0..<weights.rows {
            for j in 0..<k {
                var step = Double(grid.scales[row])
                var (low, high) = (-127.0, 127.0)
                if let groupSize = grid.groupSize {
                    step *= Double(multipliers[row * groups + j / groupSize])
                    (low, high) = (-8, 7)
                }
                let isPruned = weights[row, j] == 0
                let q = isPruned ? 0 : min(max((w[row * k + j] / step).rounded(.toNearestOrEven), low), high)
                values[row * k + j] = Int8(q)
                let error = (w[row * k + j] - q * step) / inverses[j][0]
                for l in j..<k { w[row * k + l] -= error * inverses[j][l - j] }
            }
        }
        self.values = values
    }

    /// Solves A·x = e₀ for the square of `matrix` from `first` on, by elimination; A is positive definite.
    private static func firstRowOfInverse(_ matrix: [Double], from first: Int, order: Int) -> [Double] {
        let n = order - first
        var a = (0..<n).map { row in (0..<n).map { matrix[(first + row) * order + first + $0] } }
        var x = [Double](repeating: 0, count: n)
        x[0] = 1
        for pivot in 0..<n {
            for row in pivot + 1..<max(n, pivot + 1) {
                let factor = a[row][pivot] / a[pivot][pivot]
                for column in pivot..<n { a[row][column] -= factor * a[pivot][column] }
                x[row] -= factor * x[pivot]
            }
        }
        for row in stride(from: n - 1, through: 0, by: -1) {
            for column in row + 1..<max(n, row + 1) { x[row] -= a[row][column] * x[column] }
            x[row] /= a[row][row]
        }
        return x
    }
}
