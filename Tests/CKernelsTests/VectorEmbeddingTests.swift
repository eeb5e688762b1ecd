import CKernels
import Testing

/// Embedding rows out of packed tables: exactly fma(q, scale, position).
@Suite struct VectorEmbeddingTests {
    static let widths = [1, 3, 15, 16, 17, 48, 64, 65, 768]
    static let ids: [Int32] = [0, 15, 16, 36, 7, 7, 31]
    static let tableRows = 37

    private func run(
        _ embed: lathe_embedding_fn, width: Int, table: GuardedBuffer? = nil, weights: lathe_weights = lathe_weights(),
        positions: [Float]?, placement: GuardedBuffer.Placement
    ) -> [Float] {
        let (rows, stride) = (Self.ids.count, width + 3)
        let ids = GuardedBuffer(Self.ids, placement: placement)
        let order = GuardedBuffer((0..<Int32(rows)).map { Int32(rows) - 1 - $0 }, placement: placement)
        let positionTable = positions.map {
            GuardedBuffer($0.spread(width: width, stride: width + 1), placement: placement)
        }
        let output = GuardedBuffer(bytes: ((rows - 1) * stride + width) * 4, placement: placement)
        var operation = lathe_embedding()
        operation.ids = UnsafePointer(ids.pointer(to: Int32.self))
        operation.positions = UnsafePointer(order.pointer(to: Int32.self))
        operation.rows = rows
        operation.width = width
        operation.table = table.map { UnsafePointer($0.pointer(to: Float.self)) }
        operation.position_table = positionTable.map { UnsafePointer($0.pointer(to: Float.self)) }
        operation.position_stride_bytes = (width + 1) * 4
        operation.output = output.pointer()
        operation.output_stride_bytes = stride * 4
        withUnsafePointer(to: weights) {
            operation.weights = $0
            embed(&operation)
        }
        let all = output.array(of: Float.self)
        return (0..<rows).flatMap { all[$0 * stride..<$0 * stride + width] }
    }

    private func position(_ positions: [Float]?, row: Int, width: Int, _ k: Int) -> Float {
        positions.map { $0[(Self.ids.count - 1 - row) * width + k] } ?? 0
    }

    @Test(arguments: VectorKernels.names, LinearQD8Format.all)
    func quantized(kernel name: String, format: LinearQD8Format) throws {
        let kernel = try VectorKernels.kernel(name)
        for width in Self.widths {
            var generator = SeededGenerator(seed: UInt64(width))
            let encoded = format.encode(columns: Self.tableRows, depth: width, using: &generator)
            let scales = generator.floats(48, in: 0.001...0.1)
            let table = generator.floats(Self.ids.count * width, in: -1...1)
            for positions in [nil, table] {
                for placement in GuardedBuffer.Placement.allCases {
                    let weights = GuardedWeights(encoded, format, scales: scales, placement: placement)
                    let result = run(
                        format.embed(of: kernel), width: width, weights: weights.weights, positions: positions,
                        placement: placement)
                    withExtendedLifetime(weights) {}
                    for (row, id) in Self.ids.enumerated() {
                        for k in 0..<width {
                            let expected = position(positions, row: row, width: width, k)
                                .addingProduct(Float(encoded.w[Int(id) * width + k]), scales[Int(id)])
                            #expect(result[row * width + k].bitPattern == expected.bitPattern, "row \(row), \(k)")
                        }
                    }
                }
            }
        }
    }

    @Test(arguments: VectorKernels.names, widths)
    func float32(kernel name: String, width: Int) throws {
        let kernel = try VectorKernels.kernel(name)
        var generator = SeededGenerator(seed: UInt64(width))
        let weights = generator.floats(Self.tableRows * width, in: -1...1)
        var packed = [Float](repeating: 0, count: 48 * width)
        for n in 0..<Self.tableRows {
            for k in 0..<width { packed[((n / 16) * width + k) * 16 + n % 16] = weights[n * width + k] }
        }
        let table = generator.floats(Self.ids.count * width, in: -1...1)
        for positions in [nil, table] {
            for placement in GuardedBuffer.Placement.allCases {
                let result = run(
                    kernel.embed_f32, width: width, table: GuardedBuffer(packed, alignment: 64, placement: placement),
                    positions: positions, placement: placement)
                for (row, id) in Self.ids.enumerated() {
                    for k in 0..<width {
                        let expected = weights[Int(id) * width + k] + position(positions, row: row, width: width, k)
                        #expect(result[row * width + k].bitPattern == expected.bitPattern, "row \(row), element \(k)")
                    }
                }
            }
        }
    }
}
