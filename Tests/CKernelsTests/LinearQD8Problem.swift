import AMXEmulation
import CKernels

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The int8 kernels under test: the table, and the AMX kernel on emulated tiles.
enum LinearQD8Kernels {
    static let emulated = "amx, emulated"
    static var table: [lathe_linear_qd8_kernel] {
        var count = 0
        let kernels = lathe_linear_qd8_kernels(&count)
        return Array(UnsafeBufferPointer(start: kernels, count: count))
    }
    static var definition: lathe_linear_qd8_kernel { table[0] }
    /// Those that this machine can run; LinearAvailabilityTests shows what is missing as skipped tests.
    static let names = (table.map { String(cString: $0.name) } + [emulated]).filter {
        kernel($0).features & ~lathe_cpu_features() == 0
    }

    static func kernel(_ name: String) -> lathe_linear_qd8_kernel {
        guard name == emulated else { return table.first { String(cString: $0.name) == name }! }
        var kernel = definition
        kernel.features = lathe_amx_emulation_features()
        kernel.run = lathe_linear_qd8_qc8w_amx_emulated
        return kernel
    }
}

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
    let sums: [Int32]
    let bias: [Float]
    let residual: [Float]  // [rows][columns]

    private let buffers:
        (
            activations: [GuardedBuffer], quantization: GuardedBuffer, weights: GuardedBuffer, scales: GuardedBuffer,
            sums: GuardedBuffer, bias: GuardedBuffer, residual: GuardedBuffer
        )

    init(_ shape: LinearQD8Case, seed: UInt64 = 1) {
        self.shape = shape
        var generator = SeededGenerator(seed: seed)
        let (rows, columns, depth) = (shape.rows, shape.columns, shape.depth)
        let paddedColumns = shape.panels * 16
        let paddedDepth = shape.paddedDepth
        let extremes = shape.data == .extremes
        var q = [UInt8](repeating: 255, count: rows * depth)
        var w = [Int8](repeating: 0, count: columns * depth)
        if !extremes { for i in q.indices { q[i] = UInt8(truncatingIfNeeded: generator.next()) } }
        for n in 0..<columns {
            for k in 0..<depth {
                // Whole columns of 127 and of −127: the largest sums that there are.
                w[n * depth + k] = extremes ? (n % 2 == 0 ? 127 : -127) : Int8.random(in: -127...127, using: &generator)
            }
        }
        self.q = q
        self.w = w
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
        sums = (0..<paddedColumns).map { n in
            n < columns ? w[n * depth..<(n + 1) * depth].reduce(Int32(0)) { $0 + Int32($1) } : 0
        }

        // The formula of T16, apart from the packing code.
        var packed = [Int8](repeating: 0, count: paddedColumns * paddedDepth)
        for n in 0..<columns {
            for k in 0..<depth {
                let block = ((n / 16) * (paddedDepth / 64) + k / 64) * 1024
                packed[block + ((k % 64) / 4) * 64 + (n % 16) * 4 + k % 4] = w[n * depth + k]
            }
        }
        let stride = LinearQD8Problem.activationStride(shape)
        var unsigned = [UInt8](repeating: 0xEE, count: (rows - 1) * stride + paddedDepth)
        var centered = [Int16](repeating: 0x7EEE, count: (rows - 1) * stride + paddedDepth)
        for row in 0..<rows {
            for k in 0..<paddedDepth {
                let value = k < depth ? q[row * depth + k] : 0
                unsigned[row * stride + k] = value
                centered[row * stride + k] =
                    k < depth ? Int16(value) - Int16(quantization[row].zero_point) : 0
            }
        }
        let place = shape.placement
        buffers = (
            activations: [
                GuardedBuffer(unsigned, alignment: 64, placement: place),
                GuardedBuffer(centered, alignment: 64, placement: place),
            ],
            quantization: GuardedBuffer(quantization, placement: place),
            weights: GuardedBuffer(packed, alignment: 64, placement: place),
            scales: GuardedBuffer(scales, placement: place),
            sums: GuardedBuffer(sums, placement: place),
            bias: GuardedBuffer(bias, placement: place),
            residual: GuardedBuffer(
                LinearQD8Problem.spread(residual, shape: shape, filler: 0), placement: place)
        )
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
    func run(_ kernel: lathe_linear_qd8_kernel, panels: [Range<Int>]? = nil) -> [UInt32] {
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
        operation.activations = UnsafeRawPointer(buffers.activations[Int(kernel.storage.rawValue)].base)
        operation.activation_stride_bytes =
            Self.activationStride(shape) * (kernel.storage == LATHE_ACTIVATIONS_I16_CENTERED ? 2 : 1)
        operation.quantization = UnsafePointer(buffers.quantization.pointer(to: lathe_row_quantization.self))
        var weights = lathe_weights()
        weights.format = LATHE_QC8W
        weights.columns = shape.columns
        weights.depth = shape.depth
        weights.values = UnsafeRawPointer(buffers.weights.base)
        weights.scales = UnsafePointer(buffers.scales.pointer(to: Float.self))
        weights.column_sums = UnsafePointer(buffers.sums.pointer(to: Int32.self))
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
        withUnsafePointer(to: weights) { weights in
            operation.weights = weights
            for range in panels ?? [0..<shape.panels] { kernel.run(&operation, range.lowerBound, range.upperBound) }
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
