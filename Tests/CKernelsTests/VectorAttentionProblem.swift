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
        "\(type.name) head_dim \(headDim), \(rows) rows at \(first), \(data), \(placement)"
    }
}

extension lathe_kv_type {
    static let all: [lathe_kv_type] = [LATHE_KV_F32, LATHE_KV_F16, LATHE_KV_I8]

    var name: String { ["f32", "f16", "int8"][Int(rawValue)] }
    private var elementBytes: Int { [4, 2, 1][Int(rawValue)] }
    private var scaleBytes: Int { self == LATHE_KV_I8 ? 4 : 0 }

    /// Of one head's K and V in a block.
    func keyBytes(_ headDim: Int) -> Int { 64 * (headDim * elementBytes + scaleBytes) }
    func valueBytes(_ headDim: Int) -> Int { 64 * ((headDim + 15) / 16 * 16 * elementBytes + scaleBytes) }
}

final class AttentionProblem {
    let shape: AttentionCase
    let queries, keys, values: [Float]  // [positions][head_dim]; queries [rows][head_dim]
    let scale: Float

    /// - Parameter given: values in place of random ones.
    init(_ shape: AttentionCase, values given: [Float]? = nil) {
        self.shape = shape
        var generator = SeededGenerator(seed: UInt64(shape.headDim * 1000 + shape.first * 10 + shape.rows))
        keys = shape.data.floats(shape.positions * shape.headDim, using: &generator)
        values = given ?? shape.data.floats(shape.positions * shape.headDim, using: &generator)
        queries = shape.data.floats(shape.rows * shape.headDim, using: &generator)
        scale = 1 / Float(shape.headDim).squareRoot()
    }

    private var keyBytes: Int { shape.type.keyBytes(shape.headDim) }
    private var valueBytes: Int { shape.type.valueBytes(shape.headDim) }

    /// Blocks whose every byte is 0xFF, a NaN in both float types and as a scale: what recycled blocks may hold.
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

    /// [positions][head_dim] as the cache rounds them.
    private func rounded(_ x: [Float]) -> [Double] {
        switch shape.type {
        case LATHE_KV_F16: x.map { Double(Float16(min(max($0, -65504), 65504))) }
        case LATHE_KV_I8:
            stride(from: 0, to: x.count, by: shape.headDim).flatMap { start in
                let (scale, numbers) = roundedToInt8(Array(x[start..<start + shape.headDim]))
                return numbers.map { Double($0) * Double(scale) }
            }
        default: x.map(Double.init)
        }
    }

    /// The outputs in float64 from the mathematics alone.
    func reference() -> [Double] {
        let d = shape.headDim
        let k = rounded(keys)
        let v = rounded(values)
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

/// One token's keys, or values, of a head as an int8 cache holds them.
func roundedToInt8(_ x: [Float]) -> (scale: Float, numbers: [Int8]) {
    guard x.allSatisfy(\.isFinite) else { return (.nan, x.map { _ in 0 }) }
    let greatest = x.map(abs).max()!
    guard greatest >= 0x1p-100 else { return (1, x.map { _ in 0 }) }
    return (greatest / 127, x.map { Int8(min(max(($0 * (127 / greatest)).rounded(.toNearestOrEven), -127), 127)) })
}
