import CKernels
import Testing

/// The conversions to and from IEEE half, through the cache that uses them, on every half there is.
@Suite struct VectorHalfTests {
    static let finiteHalves = (UInt16.min...UInt16.max).filter { Float16(bitPattern: $0).isFinite }

    private func withHead<R>(width: Int, _ body: (lathe_kv_head, UnsafeMutablePointer<UInt16>) -> R) -> R {
        let keyBytes = 64 * width * 2
        let block = GuardedBuffer(bytes: keyBytes + 64 * ((width + 15) / 16 * 16) * 2, alignment: 64)
        var pointer: UnsafeMutablePointer<UInt8>? = block.pointer()
        return withUnsafePointer(to: &pointer) {
            body(
                lathe_kv_head(
                    type: LATHE_KV_F16, head_dim: width, blocks: $0, key_offset_bytes: 0, value_offset_bytes: keyBytes),
                (block.base + keyBytes).assumingMemoryBound(to: UInt16.self))
        }
    }

    /// What the cache holds after these values were stored.
    private func stored(_ kernel: lathe_vector_kernel, _ values: [Float]) -> [UInt16] {
        withHead(width: values.count) { head, block in
            withUnsafePointer(to: head) {
                kernel.kv_store($0, 0, 1, values, values.count * 4, values, values.count * 4)
            }
            return Array(UnsafeBufferPointer(start: block, count: values.count))
        }
    }

    @Test(arguments: VectorKernels.names)
    func roundsToNearestEven(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        // Every half, the point half way to the next one, and the floats on both sides of that point.
        var values: [Float] = []
        for bits in Self.finiteHalves {
            let half = Float(Float16(bitPattern: bits))
            let next = Float(Float16(bitPattern: bits).nextUp)
            values.append(half)
            if next.isFinite {
                let middle = (half + next) / 2
                values += [middle, middle.nextUp, middle.nextDown]
            }
        }
        values += [65504, 65519.996, 65520, 1e6, -1e6, .greatestFiniteMagnitude, -.greatestFiniteMagnitude]
        values += [0x1p-25, 0x1.000002p-25, 0x1p-26, -0x1p-25, 0x1p-133, -0x1p-133, 0, -0.0]
        let expected = values.map { Float16(min(max($0, -65504), 65504)).bitPattern }
        #expect(stored(kernel, values) == expected)
        #expect(stored(kernel, [.nan]).allSatisfy { Float16(bitPattern: $0).isNaN })
    }

    /// Over floats at large: every 65521st bit pattern.
    @Test(arguments: VectorKernels.names)
    func roundsOverAllFloats(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        let values = stride(from: UInt32(0), through: .max, by: 65521).map { Float(bitPattern: $0) }
            .filter { !$0.isNaN }
        let expected = values.map { Float16(min(max($0, -65504), 65504)).bitPattern }
        #expect(stored(kernel, values) == expected)
    }

    /// A lone position has the weight 1, so that its output is its value.
    @Test(arguments: VectorKernels.names)
    func readsEveryHalf(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        let width = Self.finiteHalves.count
        let zeros = [Float](repeating: 0, count: width)
        var scratch = [Float](repeating: 0, count: lathe_attention_scratch_floats(1, width) + 16)
        var output = zeros
        withHead(width: width) { head, block in
            withUnsafePointer(to: head) { head in
                kernel.kv_store(head, 0, 1, zeros, width * 4, zeros, width * 4)
                for (i, bits) in Self.finiteHalves.enumerated() { block[i] = bits }
                scratch.withUnsafeMutableBufferPointer { scratch in
                    output.withUnsafeMutableBufferPointer { output in
                        let address = UInt(bitPattern: scratch.baseAddress!)
                        var operation = lathe_attention()
                        operation.head = head
                        operation.rows = 1
                        operation.queries = UnsafePointer(output.baseAddress!)
                        operation.query_stride_bytes = width * 4
                        operation.scale = 1
                        operation.output = output.baseAddress!
                        operation.output_stride_bytes = width * 4
                        operation.scratch = UnsafeMutablePointer(bitPattern: (address + 63) / 64 * 64)
                        kernel.attention(&operation)
                    }
                }
            }
        }
        // A chain of one product starts from +0, so that −0 comes out as +0.
        #expect(output.bits == Self.finiteHalves.map { (Float(Float16(bitPattern: $0)) + 0).bitPattern })
    }
}
