import CKernels
import LatheFormat

/// The packing kernels over checkpoint slices, and what else the offline half asks of C. The one file of this half that
/// calls kernels.
enum Packing {
    struct Int8Panels {
        let weights: AlignedBuffer
        let scales: [Float]
        let columnSums: [Int32]
        let error: EncodingError
    }

    /// T16 panels of `slice`, with their scales and column sums (both padded to a multiple of 16) and what rounding cost.
    static func packInt8(_ slice: MatrixReader.Slice, threads: Int) throws(LatheError) -> Int8Panels {
        try requireFinite(slice)
        let panels = slice.columns.roundedUp(to: 16) / 16
        let panelBytes = 16 * slice.depth.roundedUp(to: 64)
        let weights = AlignedBuffer(byteCount: panels * panelBytes)
        let scales = AlignedBuffer(byteCount: panels * 16 * 4)
        let sums = AlignedBuffer(byteCount: panels * 16 * 4)
        let errors = AlignedBuffer(byteCount: panels * MemoryLayout<EncodingError>.stride)
        withExtendedLifetime((slice.buffer, weights, scales, sums, errors)) {
            let source = unsafe slice.buffer.elements(of: Float.self)
            let packed = unsafe weights.elements(of: Int8.self)
            let packedScales = unsafe scales.elements(of: Float.self)
            let packedSums = unsafe sums.elements(of: Int32.self)
            let panelErrors = unsafe errors.elements(of: EncodingError.self)
            parallelFor(panels, threads: threads) { panel in
                let columns = min(16, slice.columns - panel * 16)
                let base = unsafe source + panel * 16 * slice.columnStride
                let packed = unsafe packed + panel * panelBytes
                let scales = unsafe packedScales + panel * 16
                unsafe lathe_pack_qc8w(
                    base, slice.columnStride * 4, slice.depthStride * 4, columns, slice.depth, packed, scales,
                    packedSums + panel * 16)
                unsafe panelErrors[panel] = encodingError(
                    of: slice, base: base, columns: columns, packed: packed, scales: scales)
            }
        }
        var error = EncodingError()
        for panel in 0..<panels { error += errors.view.load(panel, as: EncodingError.self) }
        return Int8Panels(
            weights: weights, scales: (0..<panels * 16).map { scales.view.load($0, as: Float.self) },
            columnSums: (0..<panels * 16).map { sums.view.load($0, as: Int32.self) }, error: error)
    }

    /// P16 panels of `slice`.
    static func packFloat32(_ slice: MatrixReader.Slice, threads: Int) throws(LatheError) -> AlignedBuffer {
        try requireFinite(slice)
        let panels = slice.columns.roundedUp(to: 16) / 16
        let panelBytes = 16 * slice.depth * 4
        let packed = AlignedBuffer(byteCount: panels * panelBytes)
        withExtendedLifetime((slice.buffer, packed)) {
            let source = unsafe slice.buffer.elements(of: Float.self)
            let target = unsafe packed.elements(of: Float.self)
            parallelFor(panels, threads: threads) { panel in
                unsafe lathe_pack_f32(
                    source + panel * 16 * slice.columnStride, slice.columnStride * 4, slice.depthStride * 4,
                    min(16, slice.columns - panel * 16), slice.depth, target + panel * 16 * slice.depth)
            }
        }
        return packed
    }

    /// float32 rows, each padded with zeros to a multiple of 16.
    static func packRows(_ source: WeightSource) throws(LatheError) -> AlignedBuffer {
        let width = source.shape[source.shape.count - 1]
        let rows = source.shape.count == 2 ? source.shape[0] : 1
        let padded = width.roundedUp(to: 16)
        let floats = try source.entry.file.floats(of: source.entry.tensor.name)
        try requireFinite(
            .init(
                source: source, firstElement: 0, buffer: floats, columns: rows, depth: width, columnStride: width,
                depthStride: 1))
        let result = AlignedBuffer(byteCount: rows * padded * 4)
        unsafe floats.withUnsafeMutableBytes { source in
            unsafe result.withUnsafeMutableBytes { result in
                for row in 0..<rows {
                    unsafe (result.baseAddress! + row * padded * 4).copyMemory(
                        from: source.baseAddress! + row * width * 4, byteCount: width * 4)
                }
            }
        }
        return result
    }

    static func bytes<T: BitwiseCopyable>(of elements: [T]) -> ByteView {
        let buffer = AlignedBuffer(byteCount: elements.count * MemoryLayout<T>.stride)
        unsafe buffer.withUnsafeMutableBytes { bytes in
            unsafe elements.withUnsafeBytes { unsafe bytes.copyMemory(from: $0) }
        }
        return buffer.view
    }

    /// The compression function of SHA-256 over the whole blocks of 64 bytes in `bytes`; `state` has eight words.
    static func digestBlocks(_ bytes: ByteView, into state: inout [UInt32]) {
        precondition(state.count == 8, "the state of SHA-256 has eight words")
        unsafe bytes.withUnsafeBytes { unsafe lathe_sha256_blocks(&state, $0.baseAddress, $0.count / 64) }
    }

    /// Weights that are not finite have no place in a model: they would poison every logit.
    private static func requireFinite(_ slice: MatrixReader.Slice) throws(LatheError) {
        if let bad = slice.buffer.view.firstNotFinite {
            throw LatheError(
                .notFinite,
                "\(quoted(slice.source.entry.file.path)): the tensor \(quoted(slice.source.entry.tensor.name)) holds a "
                    + "value that is not finite at element \(slice.firstElement + bad); such a checkpoint cannot be "
                    + "converted.")
        }
    }

    private static func encodingError(
        of slice: MatrixReader.Slice, base: UnsafePointer<Float>, columns: Int, packed: UnsafePointer<Int8>,
        scales: UnsafePointer<Float>
    ) -> EncodingError {
        var error = EncodingError()
        for k in 0..<slice.depth {
            let row = unsafe base + k * slice.depthStride
            let quad = unsafe packed + (k / 64) * 1024 + ((k % 64) / 4) * 64 + k % 4
            // In double precision: the square of a large float32 is beyond float32.
            for n in 0..<columns {
                let weight = unsafe Double(row[n * slice.columnStride])
                let difference = unsafe weight - Double(quad[n * 4]) * Double(scales[n])
                error.squaredError += difference * difference
                error.squaredWeights += weight * weight
            }
        }
        return error
    }

    /// Calls `body` once for each index below `count`, spread over at most `threads` threads; returns when all are done.
    static func parallelFor(_ count: Int, threads: Int, _ body: (Int) -> Void) {
        withoutActuallyEscaping(body) { body in
            var work = ParallelWork(count: count, body: body)
            unsafe withUnsafeMutablePointer(to: &work) { work in
                unsafe lathe_parallel(
                    max(1, min(threads, count)),
                    { context, thread, threads in
                        let work = unsafe context!.assumingMemoryBound(to: ParallelWork.self)
                        let count = unsafe work.pointee.count
                        for index in count * thread / threads..<count * (thread + 1) / threads {
                            unsafe work.pointee.body(index)
                        }
                    }, work)
            }
        }
    }

    private struct ParallelWork {
        let count: Int
        let body: (Int) -> Void
    }
}
