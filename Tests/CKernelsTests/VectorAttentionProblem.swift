import CKernels

/// One head's cache and queries, every array against a guard page.
struct AttentionCase: CustomStringConvertible {
    var type: lathe_kv_type
    var headDim: Int
    var first: Int
    var rows: Int
    var data = TestData.ordinary
    var placement = GuardedBuffer.Placement.beforeGuard
    /// In a block, V lies before K: so that each of them touches a guard page in some case.
    var valuesFirst = false
    var slack = 0

    var positions: Int { first + rows }
    var description: String {
        "\(type == LATHE_KV_F16 ? "f16" : "f32") head_dim \(headDim), \(rows) rows at \(first), \(data), \(placement)"
    }
}

final class AttentionProblem {
    let shape: AttentionCase
    let queries, keys, values: [Float]  // [positions][head_dim]; queries [rows][head_dim]
    let scale: Float

    init(_ shape: AttentionCase) {
        self.shape = shape
        var generator = SeededGenerator(seed: UInt64(shape.headDim * 1000 + shape.first * 10 + shape.rows))
        keys = shape.data.floats(shape.positions * shape.headDim, using: &generator)
        values = shape.data.floats(shape.positions * shape.headDim, using: &generator)
        queries = shape.data.floats(shape.rows * shape.headDim, using: &generator)
        scale = 1 / Float(shape.headDim).squareRoot()
    }

    private var elementBytes: Int { shape.type == LATHE_KV_F16 ? 2 : 4 }
    private var keyBytes: Int { 64 * shape.headDim * elementBytes }
    private var valueBytes: Int { 64 * ((shape.headDim + 15) / 16 * 16) * elementBytes }

    /// Blocks whose every byte is 0xFF, a NaN in both types: what recycled blocks may hold.
    func emptyBlocks() -> [GuardedBuffer] {
        (0..<(shape.positions + 63) / 64).map { _ in
            let block = GuardedBuffer(bytes: keyBytes + valueBytes, alignment: 64, placement: shape.placement)
            block.fill(0xFF)
            return block
        }
    }

    private func withHead<R>(_ blocks: [GuardedBuffer], _ body: (lathe_kv_head) -> R) -> R {
        let pointers: [UnsafeMutablePointer<UInt8>?] = blocks.map { $0.pointer() }
        return pointers.withUnsafeBufferPointer { pointers in
            body(
                lathe_kv_head(
                    type: shape.type, head_dim: shape.headDim, blocks: pointers.baseAddress!,
                    key_offset_bytes: shape.valuesFirst ? valueBytes : 0,
                    value_offset_bytes: shape.valuesFirst ? 0 : keyBytes))
        }
    }

    /// Stores the given positions.
    func store(_ kernel: lathe_vector_kernel, in blocks: [GuardedBuffer], _ positions: Range<Int>) {
        let (d, stride) = (shape.headDim, shape.headDim + shape.slack)
        let part = positions.lowerBound * d..<positions.upperBound * d
        let k = GuardedBuffer(Array(keys[part]).spread(width: d, stride: stride), placement: shape.placement)
        let v = GuardedBuffer(Array(values[part]).spread(width: d, stride: stride), placement: shape.placement)
        withHead(blocks) { head in
            withUnsafePointer(to: head) {
                kernel.kv_store(
                    $0, positions.lowerBound, positions.count, k.pointer(), stride * 4, v.pointer(), stride * 4)
            }
        }
    }

    /// The outputs of the given rows, [rows][head_dim].
    func attend(_ kernel: lathe_vector_kernel, _ blocks: [GuardedBuffer], _ rows: Range<Int>) -> [Float] {
        let (d, stride) = (shape.headDim, shape.headDim + shape.slack)
        let part = Array(queries[rows.lowerBound * d..<rows.upperBound * d])
        let q = GuardedBuffer(part.spread(width: d, stride: stride), placement: shape.placement)
        let out = GuardedBuffer(bytes: q.bytes, placement: shape.placement)
        let first = shape.first + rows.lowerBound
        let scratch = GuardedBuffer(
            bytes: lathe_attention_scratch_floats(first + rows.count, d) * 4, alignment: 64,
            placement: shape.placement)
        scratch.fill(0xFF)
        withHead(blocks) { head in
            withUnsafePointer(to: head) { head in
                var operation = lathe_attention()
                operation.head = head
                operation.first_position = first
                operation.rows = rows.count
                operation.queries = UnsafePointer(q.pointer(to: Float.self))
                operation.query_stride_bytes = stride * 4
                operation.scale = scale
                operation.output = out.pointer()
                operation.output_stride_bytes = stride * 4
                operation.scratch = scratch.pointer()
                kernel.attention(&operation)
            }
        }
        let all = out.array(of: Float.self)
        return (0..<rows.count).flatMap { all[$0 * stride..<$0 * stride + d] }
    }

    /// Stores everything with one kernel, then attends with it.
    func run(_ kernel: lathe_vector_kernel) -> [Float] {
        let blocks = emptyBlocks()
        store(kernel, in: blocks, 0..<shape.positions)
        return attend(kernel, blocks, 0..<shape.rows)
    }

    /// The element (position, d) as the cache rounds it.
    private func rounded(_ x: Float) -> Double {
        shape.type == LATHE_KV_F16 ? Double(Float16(min(max(x, -65504), 65504))) : Double(x)
    }

    /// The outputs in float64 from the mathematics alone.
    func reference() -> [Double] {
        let d = shape.headDim
        let k = keys.map(rounded)
        let v = values.map(rounded)
        return (0..<shape.rows).flatMap { row -> [Double] in
            let seen = 0...shape.first + row
            let scores = seen.map { t in
                (0..<d).reduce(0.0) { $0 + Double(queries[row * d + $1]) * Double(scale) * k[t * d + $1] }
            }
            let greatest = scores.max()!
            let p = scores.map { referenceExp($0 - greatest) }
            let sum = p.reduce(0, +)
            return (0..<d).map { j in seen.reduce(0.0) { $0 + p[$1] * v[$1 * d + j] } / sum }
        }
    }
}
