import CKernels
import Testing

/// What an int8 cache holds, against the rule as stated: numbers, scales, and where they lie.
@Suite struct VectorInt8CacheTests {
    /// One block, after `rows` tokens were stored from `first` on.
    private struct Stored {
        let block: GuardedBuffer
        let headDim: Int

        init(_ kernel: lathe_vector_kernel, headDim: Int, first: Int, keys: [Float], values: [Float]) {
            self.headDim = headDim
            let bytes = LATHE_KV_I8.keyBytes(headDim) + LATHE_KV_I8.valueBytes(headDim)
            block = GuardedBuffer(bytes: bytes, alignment: 64)
            block.fill(0xFF)
            var pointer: UnsafeMutablePointer<UInt8>? = block.pointer()
            withUnsafePointer(to: &pointer) {
                var head = lathe_kv_head(
                    type: LATHE_KV_I8, head_dim: headDim, blocks: $0, key_offset_bytes: 0,
                    value_offset_bytes: LATHE_KV_I8.keyBytes(headDim))
                kernel.kv_store(&head, first, keys.count / headDim, keys, headDim * 4, values, headDim * 4)
            }
        }

        private func numbers(at offset: Int) -> UnsafePointer<Int8> {
            UnsafePointer((block.base + offset).assumingMemoryBound(to: Int8.self))
        }
        private func scale(at offset: Int, _ token: Int) -> Float {
            (block.base + offset).assumingMemoryBound(to: Float.self)[token]
        }
        private var padded: Int { (headDim + 15) / 16 * 16 }
        private var valueOffset: Int { LATHE_KV_I8.keyBytes(headDim) }

        func key(_ token: Int) -> (scale: Float, numbers: [Int8]) {
            let base = numbers(at: token / 16 * headDim * 16)
            return (scale(at: 64 * headDim, token), (0..<headDim).map { base[$0 * 16 + token % 16] })
        }
        func value(_ token: Int) -> (scale: Float, numbers: [Int8]) {
            let base = numbers(at: valueOffset + token * padded)
            return (scale(at: valueOffset + 64 * padded, token), (0..<headDim).map { base[$0] })
        }
        func padding(_ token: Int) -> [Int8] {
            let base = numbers(at: valueOffset + token * padded)
            return (headDim..<padded).map { base[$0] }
        }
    }

    private func expect(
        _ found: (scale: Float, numbers: [Int8]), _ source: ArraySlice<Float>, _ comment: Comment
    ) {
        let expected = roundedToInt8(Array(source))
        #expect(found.numbers == expected.numbers, comment)
        #expect(found.scale.bitPattern == expected.scale.bitPattern, comment)
    }

    @Test(arguments: VectorKernels.names, [1, 5, 16, 33, 64])
    func roundsByTokenAndHead(kernel name: String, headDim: Int) throws {
        let kernel = try VectorKernels.kernel(name)
        for data in TestData.allCases {
            var generator = SeededGenerator(seed: UInt64(headDim))
            let (first, rows) = (13, 40)
            let keys = data.floats(rows * headDim, using: &generator)
            let values = data.floats(rows * headDim, using: &generator)
            let stored = Stored(kernel, headDim: headDim, first: first, keys: keys, values: values)
            for row in 0..<rows {
                let part = row * headDim..<(row + 1) * headDim
                expect(stored.key(first + row), keys[part], "K \(data), row \(row)")
                expect(stored.value(first + row), values[part], "V \(data), row \(row)")
                #expect(stored.padding(first + row).allSatisfy { $0 == 0 })
            }
            // Other tokens of the block are as they were.
            for token in [0, first - 1, first + rows, 63] {
                #expect(stored.key(token).numbers.allSatisfy { $0 == -1 } && stored.key(token).scale.isNaN)
                #expect(stored.value(token).numbers.allSatisfy { $0 == -1 } && stored.value(token).scale.isNaN)
            }
        }
    }

    /// Halves of a step go to the even number; the greatest magnitude of either sign is ±127; no zero, however small the
    /// rest, becomes NaN.
    @Test(arguments: VectorKernels.names)
    func extremes(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        let rows: [[Float]] = [
            [127, 0.5, 1.5, -0.5, -1.5, 2.5, 126.5, -126.5], [-127, 127, 63.5, -63.5, 0, -0.0, 1, -1],
            [0, -0.0, 0, 0, 0, 0, 0, 0], [0x1p-149, 0x1p-126, -0x1p-101, 0, 0, 0, 0, 0],
            [0x1p-100, -0x1p-101, 0x1p-107, 0, 0, 0, 0, 0],
            [.greatestFiniteMagnitude, -.greatestFiniteMagnitude, 1e38, 1, 0, 0, 0, 0],
            [.infinity, 1, 2, 3, 0, 0, 0, 0], [1, -.infinity, 0, 0, 0, 0, 0, 0], [1, 2, .nan, 3, 4, 5, 6, 7],
        ]
        let values = rows.flatMap { $0 }
        let stored = Stored(kernel, headDim: 8, first: 0, keys: values, values: values)
        for (token, row) in rows.enumerated() {
            expect(stored.key(token), row[...], "K \(row)")
            expect(stored.value(token), row[...], "V \(row)")
        }
        #expect(stored.value(0).numbers == [127, 0, 2, 0, -2, 2, 126, -126])
        #expect(stored.value(2) == (1, [Int8](repeating: 0, count: 8)))
        #expect(stored.value(6).scale.isNaN)
    }

    /// A lone position has the weight 1: every number comes out as itself times its scale.
    @Test(arguments: VectorKernels.names)
    func readsEveryNumber(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        let values = (-127...127).map { Float($0) * 0.25 }
        let shape = AttentionCase(type: LATHE_KV_I8, headDim: values.count, first: 0, rows: 1)
        let problem = AttentionProblem(shape, values: values)
        #expect(problem.run(kernel) == values)
    }
}
