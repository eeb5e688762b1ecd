import CKernels
import Testing

/// A quantized matrix as the packing code wrote it, every array against a guard page.
private struct Packed {
    let panels: GuardedBuffer
    let scales: [Float]
    let sums: [Int32]
    private let depth: Int

    /// `weights` [columns][depth]; stored with the depth outside where `transposed`.
    init(_ weights: [Float], columns: Int, depth: Int, transposed: Bool = false) {
        var stored = weights
        if transposed {
            for n in 0..<columns { for k in 0..<depth { stored[k * columns + n] = weights[n * depth + k] } }
        }
        let source = GuardedBuffer(stored)
        let padded = (columns + 15) / 16 * 16
        panels = GuardedBuffer(bytes: lathe_qc8w_bytes(columns, depth), alignment: 64)
        panels.fill(0x55)
        let scales = GuardedBuffer(bytes: padded * 4)
        let sums = GuardedBuffer(bytes: padded * 4)
        scales.fill(0x55)
        sums.fill(0x55)
        lathe_pack_qc8w(
            source.pointer(), transposed ? 4 : depth * 4, transposed ? columns * 4 : 4, columns, depth,
            panels.pointer(), scales.pointer(), sums.pointer())
        self.scales = scales.array()
        self.sums = sums.array()
        self.depth = depth
    }

    /// The formula of T16.
    subscript(n: Int, k: Int) -> Int8 {
        let padded = (depth + 63) / 64 * 64
        let block = ((n / 16) * (padded / 64) + k / 64) * 1024
        return panels.pointer(to: Int8.self)[block + ((k % 64) / 4) * 64 + (n % 16) * 4 + k % 4]
    }
}

@Suite struct PackTests {
    static let shapes = [(1, 1), (3, 63), (16, 64), (17, 65), (33, 48), (48, 768), (5, 130)]

    @Test(arguments: shapes) func everyWeightIsTheNearestStep(columns: Int, depth: Int) {
        var generator = SeededGenerator(seed: 3)
        let weights = generator.floats(columns * depth, in: -3...3)
        let packed = Packed(weights, columns: columns, depth: depth)
        for n in 0..<columns {
            let column = weights[n * depth..<(n + 1) * depth]
            let absmax = column.map(abs).max()!
            #expect(packed.scales[n] == absmax / 127)
            var sum: Int32 = 0
            for k in 0..<depth {
                let step = (column[n * depth + k] * (127 / absmax)).rounded(.toNearestOrEven)
                let expected = Int8(max(-127, min(127, step)))
                #expect(packed[n, k] == expected)
                sum += Int32(expected)
            }
            #expect(packed.sums[n] == sum)
        }
    }

    @Test(arguments: shapes) func paddingIsZero(columns: Int, depth: Int) {
        let packed = Packed([Float](repeating: 1, count: columns * depth), columns: columns, depth: depth)
        for n in 0..<(columns + 15) / 16 * 16 {
            for k in 0..<(depth + 63) / 64 * 64 { #expect(packed[n, k] == (n < columns && k < depth ? 127 : 0)) }
            #expect(packed.sums[n] == (n < columns ? Int32(depth) * 127 : 0))
            let scale: Float = n < columns ? 1 / 127 : 1
            #expect(packed.scales[n] == scale)
        }
    }

    @Test(arguments: shapes) func theOrderInTheCheckpointDoesNotMatter(columns: Int, depth: Int) {
        var generator = SeededGenerator(seed: 4)
        let weights = generator.floats(columns * depth, in: -3...3)
        let rowMajor = Packed(weights, columns: columns, depth: depth)
        let columnMajor = Packed(weights, columns: columns, depth: depth, transposed: true)
        #expect(rowMajor.panels.array(of: Int8.self) == columnMajor.panels.array(of: Int8.self))
        #expect(rowMajor.scales == columnMajor.scales)
        #expect(rowMajor.sums == columnMajor.sums)
    }

    @Test func tiesGoToEven() {
        // absmax 127: the scale is one.
        let packed = Packed([127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -127], columns: 1, depth: 9)
        #expect((0..<9).map { packed[0, $0] } == [127, 0, 2, 2, 0, -2, -2, 126, -127])
    }

    @Test func columnsOfNothingHaveScaleOne() {
        // The second column's 127/absmax would be infinite.
        let tiny = Float.leastNonzeroMagnitude
        let packed = Packed([0, -0.0, tiny, -9 * tiny, 2, -1], columns: 3, depth: 2)
        #expect(Array(packed.scales[0..<3]) == [1, 1, Float(2) / 127])
        #expect(Array(packed.sums[0..<3]) == [0, 0, 127 - 64])
        #expect((packed[0, 0], packed[1, 0], packed[1, 1], packed[2, 0], packed[2, 1]) == (0, 0, 0, 127, -64))
    }

    @Test(arguments: shapes) func floatPanels(columns: Int, depth: Int) {
        var generator = SeededGenerator(seed: 5)
        let weights = generator.floats(columns * depth, in: -3...3)
        let source = GuardedBuffer(weights)
        let packed = GuardedBuffer(bytes: lathe_f32_bytes(columns, depth), alignment: 64)
        packed.fill(0x55)
        lathe_pack_f32(source.pointer(), depth * 4, 4, columns, depth, packed.pointer())
        let values = packed.array(of: Float.self)
        for n in 0..<(columns + 15) / 16 * 16 {
            for k in 0..<depth {
                #expect(values[(n / 16 * depth + k) * 16 + n % 16] == (n < columns ? weights[n * depth + k] : 0))
            }
        }
    }

    /// Quantize, pack and multiply as the engine does, against float64: what remains is quantization error, about a
    /// hundredth of the result's size for normal data; a mistake in layout or zero points is of the result's own size.
    @Test func quantizedProductsAreCloseToFloat() {
        let (rows, columns, depth) = (5, 40, 300)
        var generator = SeededGenerator(seed: 6)
        let x = generator.floats(rows * depth, in: -1...2)
        let w = generator.floats(columns * depth, in: -0.1...0.1)
        let packed = Packed(w, columns: columns, depth: depth)
        let stride = 320
        let q = GuardedBuffer(bytes: rows * stride, alignment: 64)
        var quantization = [lathe_row_quantization](repeating: .init(), count: rows)
        var count = 0
        lathe_quantize_kernels(&count)[0].to_storage.0!(x, depth * 4, rows, depth, &quantization, q.base, stride)
        var output = [Float](repeating: 0, count: rows * columns)
        output.withUnsafeMutableBufferPointer { output in
            quantization.withUnsafeBufferPointer { quantization in
                packed.scales.withUnsafeBufferPointer { scales in
                    packed.sums.withUnsafeBufferPointer { sums in
                        var operation = lathe_linear_qd8()
                        operation.rows = rows
                        operation.activations = UnsafeRawPointer(q.base)
                        operation.activation_stride_bytes = stride
                        operation.quantization = quantization.baseAddress
                        var matrix = lathe_weights()
                        (matrix.columns, matrix.depth) = (columns, depth)
                        matrix.values = UnsafeRawPointer(packed.panels.base)
                        matrix.scales = scales.baseAddress
                        matrix.column_sums = sums.baseAddress
                        operation.output = output.baseAddress
                        operation.output_stride_bytes = columns * 4
                        withUnsafePointer(to: matrix) {
                            operation.weights = $0
                            LinearQD8Kernels.definition.run(&operation, 0, (columns + 15) / 16)
                        }
                    }
                }
            }
        }
        var (error, size) = (0.0, 0.0)
        for row in 0..<rows {
            for n in 0..<columns {
                var exact = 0.0
                for k in 0..<depth { exact += Double(x[row * depth + k]) * Double(w[n * depth + k]) }
                error += (Double(output[row * columns + n]) - exact) * (Double(output[row * columns + n]) - exact)
                size += exact * exact
            }
        }
        #expect((error / size).squareRoot() < 0.02)
    }
}
