import LatheFormat

/// Reads a matrix of the checkpoint as float32, in slices of output columns, so that no more than a part of a large
/// embedding is ever converted at once.
struct MatrixReader {
    let source: WeightSource
    var columns: Int { source.shape[0] }
    var depth: Int { source.shape[1] }

    /// Some output columns: element (n, k) stands at `n·columnStride + k·depthStride` floats.
    struct Slice {
        let source: WeightSource
        /// Of the tensor's elements, the one that the slice begins with.
        let firstElement: Int
        let buffer: AlignedBuffer
        let columns: Int
        let depth: Int
        let columnStride: Int
        let depthStride: Int
    }

    /// Floats converted at once, where the layout lets the matrix be cut.
    private static let sliceElements = 4 << 20

    /// Calls `body` with slices of whole panels of 16 columns, in order.
    func forEachSlice(_ body: (Slice) throws(LatheError) -> Void) throws(LatheError) {
        if source.isTransposed {
            // Columns are interleaved: the tensor is converted whole, then packed at once.
            let buffer = try source.entry.file.floats(of: source.entry.tensor.name)
            try body(
                Slice(
                    source: source, firstElement: 0, buffer: buffer, columns: columns, depth: depth, columnStride: 1,
                    depthStride: columns))
            return
        }
        let step = max(16, (Self.sliceElements / depth) / 16 * 16)
        for start in stride(from: 0, to: columns, by: step) {
            let count = min(step, columns - start)
            let buffer = try source.entry.file.floats(
                of: source.entry.tensor, elements: start * depth..<(start + count) * depth)
            try body(
                Slice(
                    source: source, firstElement: start * depth, buffer: buffer, columns: count, depth: depth,
                    columnStride: depth, depthStride: 1))
        }
    }
}
