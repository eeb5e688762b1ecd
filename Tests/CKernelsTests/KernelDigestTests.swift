import CKernels
import TestSupport
import Testing

/// What every kernel gives for seeded inputs, as committed digests: an instruction set that no two machines at hand
/// share is still held to the same bits, and a changed definition is seen.
///
/// Inputs come from integer arithmetic alone, so that no library's idea of a random float enters.
@Suite struct KernelDigestTests {
    static let golden = GoldenDigests("kernels")

    /// Every family's cases, computed by the kernels of the given names (of each table's first entry by default).
    private func definitionDigests() -> [(key: String, digest: String)] {
        quantizeDigests(QuantizeTests.table[0])
            + LinearQD8Format.all.flatMap { linearQD8Digests(LinearQD8Subject(format: $0, kernel: "scalar")) }
            + linearF32Digests(LinearF32Kernels.definition) + vectorDigests(VectorKernels.definition)
    }

    @Test func definitionsAreTheCommittedOnes() throws {
        let found = definitionDigests()
        if GoldenDigests.isRegenerating {
            try Self.golden.write(found)
            Issue.record("\(Self.golden.path) was written anew; run the tests again without LATHE_REGENERATE_GOLDEN.")
            return
        }
        let expected = try Self.golden.load()
        #expect(Set(found.map(\.key)) == Set(expected.keys))
        try compare(found)
    }

    private func compare(_ found: [(key: String, digest: String)]) throws {
        let expected = try Self.golden.load()
        for (key, digest) in found { #expect(digest == expected[key], "\(key)") }
    }

    @Test(.disabled(if: GoldenDigests.isRegenerating, "the digests are being written"), arguments: QuantizeTests.names)
    func quantize(kernel name: String) throws {
        try compare(quantizeDigests(try QuantizeTests.kernel(name)))
    }

    @Test(
        .disabled(if: GoldenDigests.isRegenerating, "the digests are being written"),
        arguments: LinearQD8Kernels.subjects)
    func linearQD8(subject: LinearQD8Subject) throws {
        try compare(linearQD8Digests(subject))
    }

    @Test(
        .disabled(if: GoldenDigests.isRegenerating, "the digests are being written"), arguments: LinearF32Kernels.names)
    func linearF32(kernel name: String) throws {
        try compare(linearF32Digests(LinearF32Kernels.kernel(name)))
    }

    @Test(.disabled(if: GoldenDigests.isRegenerating, "the digests are being written"), arguments: VectorKernels.names)
    func vector(kernel name: String) throws {
        try compare(vectorDigests(try VectorKernels.kernel(name)))
    }

    // MARK: Families

    static let depths = [1, 17, 64, 100, 768]

    private func quantizeDigests(_ kernel: lathe_quantize_kernel) -> [(key: String, digest: String)] {
        Self.depths.flatMap { depth in
            let x = Memory(DigestInput.floats(3 * depth, seed: depth, outliers: true))
            let padded = (depth + 63) / 64 * 64
            func digest(
                _ rowsOut: Int, _ bytes: Int,
                _ run: (Memory, UnsafeMutablePointer<lathe_row_quantization>, Memory) -> Void
            ) -> String {
                let scales = Memory(bytes: rowsOut * 4)
                let rows = Memory(bytes: rowsOut * MemoryLayout<lathe_row_quantization>.stride)
                let q = Memory(bytes: rowsOut * padded * bytes)
                run(scales, rows.pointer(), q)
                let scaleBytes: [UInt8] = rowsOut == 6 ? scales.array() : []
                return GoldenDigests.digest(scaleBytes + rows.array(of: UInt8.self) + q.array())
            }
            let whole = [(kernel.to_storage.0!, 1, "u8"), (kernel.to_storage.1!, 2, "i16")].map { run, bytes, name in
                (
                    "quantize \(name), depth \(depth)",
                    digest(3, bytes) { run(x.pointer(), depth * 4, 3, depth, $1, $2.base, padded * bytes) }
                )
            }
            let halves = kernel.halves_to_storage
            return whole
                + [(halves.0!, 1, "u8"), (halves.1!, 2, "i16")].map { run, bytes, name in
                    (
                        "quantize halves \(name), depth \(depth)",
                        digest(6, bytes) {
                            run(x.pointer(), depth * 4, 3, depth, $0.pointer(), $1, $2.base, padded * bytes)
                        }
                    )
                }
        }
    }

    static let epilogues: [(lathe_epilogue, String)] = [
        (LATHE_EPILOGUE_NONE, "none"), (LATHE_EPILOGUE_GELU_TANH, "gelu_tanh"), (LATHE_EPILOGUE_GELU_ERF, "gelu_erf"),
        (LATHE_EPILOGUE_RELU, "relu"),
    ]

    /// Depths by epilogues; the scalar definition quantizes and packs.
    private func linearQD8Digests(_ subject: LinearQD8Subject) -> [(key: String, digest: String)] {
        let (rows, columns, paddedColumns) = (9, 77, 80)
        return Self.depths.flatMap { depth in
            let padded = (depth + 63) / 64 * 64
            let isWide = subject.entry.storage == LATHE_ACTIVATIONS_I16_CENTERED
            let stride = padded * (isWide ? 2 : 1)
            let x = Memory(DigestInput.floats(rows * depth, seed: depth, outliers: true))
            let quantization = Memory(bytes: rows * MemoryLayout<lathe_row_quantization>.stride)
            let q = Memory(bytes: rows * stride)
            let definition = QuantizeTests.table[0].to_storage
            (isWide ? definition.1 : definition.0)!(
                x.pointer(), depth * 4, rows, depth, quantization.pointer(), q.base, stride)
            let w = DigestInput.floats(columns * depth, seed: depth + 1)
            let (packed, scales) = subject.format.pack(w, columns: columns, depth: depth)
            let weights = GuardedWeights(packed, subject.format, scales: scales, placement: .beforeGuard)
            let bias = Memory(DigestInput.floats(paddedColumns, seed: 3))
            let residual = Memory(DigestInput.floats(rows * columns, seed: 4))
            let output = Memory(bytes: rows * columns * 4)
            return Self.epilogues.map { epilogue, name in
                var operation = lathe_linear_qd8()
                operation.rows = rows
                operation.activations = UnsafeRawPointer(q.base)
                operation.activation_stride_bytes = stride
                operation.quantization = UnsafePointer(quantization.pointer(to: lathe_row_quantization.self))
                operation.bias = UnsafePointer(bias.pointer(to: Float.self))
                operation.epilogue = epilogue
                operation.residual = UnsafePointer(residual.pointer(to: Float.self))
                operation.residual_stride_bytes = columns * 4
                operation.output = output.pointer()
                operation.output_stride_bytes = columns * 4
                withUnsafePointer(to: weights.weights) {
                    operation.weights = $0
                    subject.run(operation, panels: 0..<paddedColumns / 16, placement: .beforeGuard)
                }
                let digest = GoldenDigests.digest(output.array(of: UInt32.self))
                return ("linear_qd8_\(subject.format), depth \(depth), \(name)", digest)
            }
        }
    }

    private func linearF32Digests(_ kernel: lathe_linear_f32_kernel) -> [(key: String, digest: String)] {
        let (rows, columns, paddedColumns) = (9, 77, 80)
        return Self.depths.flatMap { depth in
            let x = Memory(DigestInput.floats(rows * depth, seed: depth))
            let w = DigestInput.floats(columns * depth, seed: depth + 1)
            let weights = Memory(bytes: paddedColumns * depth * 4)
            lathe_pack_f32(w, depth * 4, 4, columns, depth, weights.pointer())
            let bias = Memory(DigestInput.floats(paddedColumns, seed: 3))
            let residual = Memory(DigestInput.floats(rows * columns, seed: 4))
            let output = Memory(bytes: rows * columns * 4)
            return Self.epilogues.map { epilogue, name in
                var operation = lathe_linear_f32()
                (operation.rows, operation.columns, operation.depth) = (rows, columns, depth)
                operation.activations = UnsafePointer(x.pointer(to: Float.self))
                operation.activation_stride_bytes = depth * 4
                operation.weights = UnsafePointer(weights.pointer(to: Float.self))
                operation.bias = UnsafePointer(bias.pointer(to: Float.self))
                operation.epilogue = epilogue
                operation.residual = UnsafePointer(residual.pointer(to: Float.self))
                operation.residual_stride_bytes = columns * 4
                operation.output = output.pointer()
                operation.output_stride_bytes = columns * 4
                kernel.run(&operation, 0, paddedColumns / 16)
                return ("linear_f32, depth \(depth), \(name)", GoldenDigests.digest(output.array(of: UInt32.self)))
            }
        }
    }

    private func vectorDigests(_ kernel: lathe_vector_kernel) -> [(key: String, digest: String)] {
        Self.depths.flatMap { rowDigests(kernel, width: $0) }
            + lathe_kv_type.all.flatMap { type in
                [5, 16, 64].map { dimension in
                    (
                        "attention, KV \(type.name), dimension \(dimension)",
                        attentionDigest(kernel, type, dimension: dimension)
                    )
                }
            }
    }

    private func rowDigests(_ kernel: lathe_vector_kernel, width: Int) -> [(key: String, digest: String)] {
        let rows = 3
        let x = Memory(DigestInput.floats(rows * width, seed: width, outliers: true))
        let (gamma, beta) = (
            Memory(DigestInput.floats(width, seed: 5)), Memory(DigestInput.floats(width, seed: 6))
        )
        let output = Memory(bytes: rows * width * 4)
        func digest() -> String { GoldenDigests.digest(output.array(of: UInt32.self)) }
        var result: [(String, String)] = []
        kernel.layer_norm(
            x.pointer(), width * 4, rows, width, gamma.pointer(), beta.pointer(), 1e-5, output.pointer(), width * 4)
        result.append(("layer_norm, width \(width)", digest()))
        for (epilogue, name) in Self.epilogues.dropFirst() {
            kernel.activate(x.pointer(), rows * width, epilogue, output.pointer())
            result.append(("\(name), width \(width)", digest()))
        }
        kernel.add(x.pointer(), gamma.pointer(), width, output.pointer())
        result.append(("add, width \(width)", digest()))
        kernel.combine_halves(
            x.pointer(), x.pointer() + width, width, 0.37, gamma.pointer(), beta.pointer(), output.pointer())
        result.append(("combine_halves, width \(width)", digest()))
        let sum = kernel.log_sum_exp(x.pointer(), rows * width)
        result.append(("log_sum_exp, width \(width)", GoldenDigests.digest([sum.bitPattern])))
        result.append(
            ("greatest, width \(width)", GoldenDigests.digest([UInt32(kernel.greatest(x.pointer(), rows * width))])))
        result += choiceDigests(kernel, x, count: rows * width, width: width)
        for format in LinearQD8Format.all {
            embed(kernel, width: width, format, output)
            result.append(("embed_\(format), width \(width)", digest()))
        }
        embed(kernel, width: width, nil, output)
        result.append(("embed_f32, width \(width)", digest()))
        return result
    }

    /// At a temperature that leaves most values a weight, on a sum that they do not double.
    private func choiceDigests(
        _ kernel: lathe_vector_kernel, _ x: Memory, count: Int, width: Int
    ) -> [(key: String, digest: String)] {
        let best = x.pointer(to: Float.self)[kernel.greatest(x.pointer(), count)]
        let (near, far, weights) = (Memory(bytes: count * 8), Memory(bytes: count * 8), Memory(bytes: count * 4))
        let kept = kernel.candidates(x.pointer(), count, best, best - 70, 30, 1.5, near.pointer(), far.pointer())
        let keys = Memory(
            near.array(of: UInt64.self).prefix(kept.near) + far.array(of: UInt64.self).prefix(kept.far)
                + [UInt64(kept.near)])
        let count = kept.near + kept.far
        kernel.exp_ranks(keys.pointer(), count, weights.pointer())
        let sum = kernel.add_unordered(4096.25, weights.pointer(), count)
        return [
            ("candidates, width \(width)", GoldenDigests.digest(keys.array(of: UInt64.self))),
            ("exp_ranks, width \(width)", GoldenDigests.digest(Array(weights.array(of: UInt32.self).prefix(count)))),
            ("add_unordered, width \(width)", GoldenDigests.digest([sum.bitPattern])),
        ]
    }

    /// - Parameter format: nil: float32.
    private func embed(_ kernel: lathe_vector_kernel, width: Int, _ format: LinearQD8Format?, _ output: Memory) {
        let vocabulary = 37
        let w = DigestInput.floats(vocabulary * width, seed: width + 7)
        let table = Memory(bytes: lathe_f32_bytes(vocabulary, width))
        lathe_pack_f32(w, width * 4, 4, vocabulary, width, table.pointer())
        let (packed, scales) = (format ?? .qc8w).pack(w, columns: vocabulary, depth: width)
        let weights = GuardedWeights(packed, format ?? .qc8w, scales: scales, placement: .beforeGuard)
        let positionTable = Memory(DigestInput.floats(3 * width, seed: 8))
        let (ids, positions) = (Memory([36, 0, 17] as [Int32]), Memory([0, 2, 1] as [Int32]))
        var operation = lathe_embedding()
        operation.ids = UnsafePointer(ids.pointer(to: Int32.self))
        operation.positions = UnsafePointer(positions.pointer(to: Int32.self))
        (operation.rows, operation.width) = (3, width)
        operation.table = UnsafePointer(table.pointer(to: Float.self))
        operation.position_table = UnsafePointer(positionTable.pointer(to: Float.self))
        operation.position_stride_bytes = width * 4
        operation.output = output.pointer()
        operation.output_stride_bytes = width * 4
        withUnsafePointer(to: weights.weights) {
            operation.weights = $0
            (format?.embed(of: kernel) ?? kernel.embed_f32)(&operation)
        }
    }

    /// Over five blocks, past the split at 256 positions.
    private func attentionDigest(_ kernel: lathe_vector_kernel, _ type: lathe_kv_type, dimension: Int) -> String {
        let (positions, rows) = (300, 11)
        let keyBytes = type.keyBytes(dimension)
        let blocks = (0..<(positions + 63) / 64).map { _ in
            Memory(bytes: keyBytes + type.valueBytes(dimension))
        }
        let pointers: [UnsafeMutablePointer<UInt8>?] = blocks.map { $0.pointer() }
        let (keys, values, queries) = (
            Memory(DigestInput.floats(positions * dimension, seed: 9)),
            Memory(DigestInput.floats(positions * dimension, seed: 10)),
            Memory(DigestInput.floats(rows * dimension, seed: 11))
        )
        let output = Memory(bytes: rows * dimension * 4)
        let scratch = Memory(bytes: lathe_attention_scratch_floats(positions, dimension) * 4)
        pointers.withUnsafeBufferPointer { pointers in
            var head = lathe_kv_head(
                type: type, head_dim: dimension, blocks: pointers.baseAddress!, key_offset_bytes: 0,
                value_offset_bytes: keyBytes)
            kernel.kv_store(&head, 0, positions, keys.pointer(), dimension * 4, values.pointer(), dimension * 4)
            withUnsafePointer(to: head) { head in
                var operation = lathe_attention()
                operation.head = head
                (operation.first_position, operation.rows) = (positions - rows, rows)
                operation.queries = UnsafePointer(queries.pointer(to: Float.self))
                operation.query_stride_bytes = dimension * 4
                operation.scale = 0.37
                operation.output = output.pointer()
                operation.output_stride_bytes = dimension * 4
                operation.scratch = scratch.pointer()
                kernel.attention(&operation)
            }
        }
        let stored = blocks.flatMap { $0.array(of: UInt8.self) }
        return GoldenDigests.digest(stored + output.array(of: UInt8.self))
    }
}

/// Zeroed memory on a cache line.
private final class Memory {
    let base: UnsafeMutableRawPointer
    private let bytes: Int

    init(bytes: Int) {
        self.bytes = bytes
        base = .allocate(byteCount: bytes + 64, alignment: 64)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: bytes + 64)
    }

    convenience init<T>(_ values: [T]) {
        self.init(bytes: values.count * MemoryLayout<T>.stride)
        values.withUnsafeBytes { base.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }

    deinit { base.deallocate() }

    func pointer<T>(to type: T.Type = T.self) -> UnsafeMutablePointer<T> { base.assumingMemoryBound(to: type) }
    func array<T>(of type: T.Type = T.self) -> [T] {
        Array(UnsafeRawBufferPointer(start: base, count: bytes).bindMemory(to: type))
    }
}

private enum DigestInput {
    /// Multiples of 2⁻²³ in −1 ..< 1; with outliers, every eleventh is 64 times as large.
    static func floats(_ count: Int, seed: Int, outliers: Bool = false) -> [Float] {
        var generator = SeededGenerator(seed: UInt64(seed))
        return (0..<count).map { index in
            let x = Float(Int64(generator.next() >> 40) - (1 << 23)) * 0x1p-23
            return outliers && index % 11 == 3 ? x * 64 : x
        }
    }
}
