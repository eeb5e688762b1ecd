import CKernels

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// One call of an int8 linear kernel, everything about it but the data.
struct LinearQD8Case: CustomStringConvertible {
    enum Residual: CaseIterable { case none, separate, output }
    enum Data { case random, extremes, everyZeroPoint }

    var rows, columns, depth: Int
    var epilogue = LATHE_EPILOGUE_NONE
    var bias = true
    var residual = Residual.none
    /// Bytes between the end of a row and the next, of activations, residual and output.
    var slack = 0
    var placement = GuardedBuffer.Placement.beforeGuard
    var data = Data.random

    var panels: Int { (columns + 15) / 16 }
    var paddedDepth: Int { (depth + 63) / 64 * 64 }
    var description: String {
        "\(rows)×\(columns)×\(depth) epilogue \(epilogue.rawValue) bias \(bias) residual \(residual) slack \(slack) \(placement)"
    }
}

/// The data of one case, every array against a guard page.
final class LinearQD8Problem {
    static let untouched: UInt32 = 0xDEAD_BEEF

    let shape: LinearQD8Case
    let q: [UInt8]  // [rows][depth]
    let w: [Int8]  // [columns][depth]
    let quantization: [lathe_row_quantization]
    let scales: [Float]
    let bias: [Float]
    let residual: [Float]  // [rows][columns]

    private let buffers:
        (activations: [GuardedBuffer], quantization: GuardedBuffer, bias: GuardedBuffer, residual: GuardedBuffer)
    private let encoded: GuardedWeights
    private let panels: GuardedWeights  // the same as int8

    init(_ shape: LinearQD8Case, _ format: LinearQD8Format = .qc8w, seed: UInt64 = 1) {
        self.shape = shape
        var generator = SeededGenerator(seed: seed)
        let (rows, columns, depth) = (shape.rows, shape.columns, shape.depth)
        let paddedColumns = shape.panels * 16
        let extremes = shape.data == .extremes
        var q = [UInt8](repeating: 255, count: rows * depth)
        if !extremes { for i in q.indices { q[i] = UInt8(truncatingIfNeeded: generator.next()) } }
        self.q = q
        var weights = format.encode(columns: columns, depth: depth, extremes: extremes, using: &generator)
        w = weights.w
        quantization = (0..<rows).map { row in
            let zeroPoint: Int32 =
                switch shape.data {
                case .random: Int32.random(in: 0...255, using: &generator)
                case .extremes: row % 2 == 0 ? 255 : 0
                case .everyZeroPoint: Int32(row % 256)
                }
            return lathe_row_quantization(
                scale: Float.random(in: 0.0001...0.1, using: &generator), zero_point: zeroPoint)
        }
        scales = generator.floats(paddedColumns, in: 0.0001...0.01)
        bias = generator.floats(paddedColumns, in: -2...2)
        residual = generator.floats(rows * columns, in: -2...2)
        let place = shape.placement
        encoded = GuardedWeights(weights, format, scales: scales, placement: place)
        weights.values = weights.panels.map { UInt8(bitPattern: $0) }
        panels = GuardedWeights(weights, .qc8w, scales: scales, placement: place)
        buffers = (
            activations: Self.activations(q, quantization, shape),
            quantization: GuardedBuffer(quantization, placement: place),
            bias: GuardedBuffer(bias, placement: place),
            residual: GuardedBuffer(Self.spread(residual, shape: shape, filler: 0), placement: place)
        )
    }

    /// In each storage.
    private static func activations(_ q: [UInt8], _ quantization: [lathe_row_quantization], _ shape: LinearQD8Case)
        -> [GuardedBuffer]
    {
        let (depth, stride) = (shape.depth, activationStride(shape))
        let count = (shape.rows - 1) * stride + shape.paddedDepth
        var unsigned = [UInt8](repeating: 0xEE, count: count)
        var centered = [Int16](repeating: 0x7EEE, count: count)
        for row in 0..<shape.rows {
            for k in 0..<shape.paddedDepth {
                let value = k < depth ? q[row * depth + k] : 0
                unsigned[row * stride + k] = value
                centered[row * stride + k] =
                    k < depth ? Int16(value) - Int16(quantization[row].zero_point) : 0
            }
        }
        return [
            GuardedBuffer(unsigned, alignment: 64, placement: shape.placement),
            GuardedBuffer(centered, alignment: 64, placement: shape.placement),
        ]
    }

    /// Elements from one row of activations to the next: rows stay 64-byte aligned whatever the slack.
    private static func activationStride(_ shape: LinearQD8Case) -> Int {
        shape.paddedDepth + (shape.slack + 63) / 64 * 64
    }
    private static func outputStride(_ shape: LinearQD8Case) -> Int { shape.columns + shape.slack }

    /// Rows set apart by the slack; the last row ends the array.
    private static func spread(_ values: [Float], shape: LinearQD8Case, filler: UInt32) -> [Float] {
        let stride = outputStride(shape)
        var spread = [Float](
            repeating: Float(bitPattern: filler), count: (shape.rows - 1) * stride + shape.columns)
        for row in 0..<shape.rows {
            for n in 0..<shape.columns { spread[row * stride + n] = values[row * shape.columns + n] }
        }
        return spread
    }

    /// The bits of all output memory, the slack between rows included.
    func run(_ subject: LinearQD8Subject, panels: [Range<Int>]? = nil) -> [UInt32] {
        run(subject.entry.storage, encoded) { operation in
            for range in panels ?? [0..<shape.panels] {
                subject.run(operation, panels: range, placement: shape.placement)
            }
        }
    }

    /// The same by the definition, on the int8 panels that the weights encode.
    func runDefinition() -> [UInt32] {
        run(LinearQD8Kernels.definition.storage, panels) { operation in
            var operation = operation
            LinearQD8Kernels.definition.run(&operation, 0, shape.panels)
        }
    }

    private func run(
        _ storage: lathe_activation_storage, _ matrix: GuardedWeights, _ body: (lathe_linear_qd8) -> Void
    ) -> [UInt32] {
        let start =
            shape.residual == .output
            ? residual
            : [Float](
                repeating: Float(bitPattern: Self.untouched), count: residual.count)
        let output = GuardedBuffer(
            Self.spread(start, shape: shape, filler: Self.untouched), placement: shape.placement)
        let stride = Self.outputStride(shape) * 4
        var operation = lathe_linear_qd8()
        operation.rows = shape.rows
        operation.activations = UnsafeRawPointer(buffers.activations[Int(storage.rawValue)].base)
        operation.activation_stride_bytes =
            Self.activationStride(shape) * (storage == LATHE_ACTIVATIONS_I16_CENTERED ? 2 : 1)
        operation.quantization = UnsafePointer(buffers.quantization.pointer(to: lathe_row_quantization.self))
        operation.bias = shape.bias ? UnsafePointer(buffers.bias.pointer(to: Float.self)) : nil
        operation.epilogue = shape.epilogue
        switch shape.residual {
        case .none: operation.residual = nil
        case .separate: operation.residual = UnsafePointer(buffers.residual.pointer(to: Float.self))
        case .output: operation.residual = UnsafePointer(output.pointer(to: Float.self))
        }
        operation.residual_stride_bytes = stride
        operation.output = output.pointer(to: Float.self)
        operation.output_stride_bytes = stride
        withUnsafePointer(to: matrix.weights) { weights in
            operation.weights = weights
            body(operation)
        }
        return output.array(of: UInt32.self)
    }

    /// The outputs in float64 from the mathematics alone, [rows][columns].
    func reference() -> [Double] {
        (0..<shape.rows * shape.columns).map { index in
            let (row, n) = (index / shape.columns, index % shape.columns)
            var sum = 0
            for k in 0..<shape.depth {
                sum += (Int(q[row * shape.depth + k]) - Int(quantization[row].zero_point)) * Int(w[n * shape.depth + k])
            }
            let x =
                Double(sum) * Double(quantization[row].scale) * Double(scales[n]) + (shape.bias ? Double(bias[n]) : 0)
            return referenceActivation(shape.epilogue, x)
                + (shape.residual == .none ? 0 : Double(residual[index]))
        }
    }

    /// The float at (row, column) of what `run` returned.
    func value(_ output: [UInt32], row: Int, column: Int) -> Float {
        Float(bitPattern: output[row * Self.outputStride(shape) + column])
    }
}

/// The activations in float64.
func referenceActivation(_ epilogue: lathe_epilogue, _ x: Double) -> Double {
    switch epilogue {
    case LATHE_EPILOGUE_GELU_TANH:
        return 0.5 * x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    case LATHE_EPILOGUE_GELU_ERF: return 0.5 * x * (1 + erf(x / 2.0.squareRoot()))
    case LATHE_EPILOGUE_RELU: return max(x, 0)
    default: return x
    }
}
