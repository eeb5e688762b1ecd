import LatheFormat

/// Some outputs of a matrix as float32: element (n, k) stands at `n·columnStride + k·depthStride` floats.
struct MatrixSlice {
    let buffer: AlignedBuffer
    let columns: Int
    let depth: Int
    let columnStride: Int
    let depthStride: Int
    /// [k], how much an error of each input's weights counts; nil: all alike.
    var importance: [Float]?
    /// The file and tensor, for messages.
    let place: String
    /// Of the tensor's elements, the one that the slice begins with.
    var firstElement = 0
}

extension MatrixSlice {
    /// The whole of a matrix in memory, row-major [n, k].
    init(_ matrix: FloatMatrix, importance: [Float]? = nil, name: String) {
        self.init(
            buffer: AlignedBuffer(copying: matrix.elements), columns: matrix.rows, depth: matrix.columns,
            columnStride: matrix.columns, depthStride: 1, importance: importance, place: "The parameter \(quoted(name))"
        )
    }

    /// Weights that are not finite have no place in a model: they would poison every logit.
    func requireFinite() throws(LatheError) {
        if let bad = buffer.view.firstNotFinite {
            throw LatheError(
                .notFinite,
                "\(place) holds a value that is not finite at element \(firstElement + bad); such a checkpoint cannot "
                    + "be converted.")
        }
    }

    /// The largest number that a scale multiplies is 127; a product beyond float32 would poison every logit.
    func requireUsableScales(_ scales: [Float]) throws(LatheError) {
        if let bad = scales.firstIndex(where: { !($0 > 0 && ($0 * 127).isFinite) }) {
            throw LatheError(
                .notFinite,
                "\(place) holds weights of output \(firstElement / depth + bad) that are too large for quantized numbers "
                    + "with a scale in float32; convert it with an override to f32.")
        }
    }

    /// Elements that are zero.
    var zeroCount: Int {
        buffer.view.withSpan(of: Float.self) { span in
            var count = 0
            for index in span.indices { count += span[index] == 0 ? 1 : 0 }
            return count
        }
    }
}

extension WeightSource {
    /// For messages.
    var place: String { "\(quoted(entry.file.path)): the tensor \(quoted(entry.tensor.name))" }

    /// Floats converted at once, where the layout lets the matrix be cut.
    private static let sliceElements = 4 << 20

    /// Calls `body` with slices of whole panels of 16 outputs, in order, so that no more than a part of a large embedding
    /// is ever converted at once.
    func forEachSlice(_ body: (MatrixSlice) throws(LatheError) -> Void) throws(LatheError) {
        let (columns, depth) = (shape[0], shape[1])
        if isTransposed {
            // Columns are interleaved: the tensor is converted whole, then packed at once.
            let buffer = try entry.file.floats(of: entry.tensor.name)
            return try body(
                MatrixSlice(
                    buffer: buffer, columns: columns, depth: depth, columnStride: 1, depthStride: columns, place: place)
            )
        }
        let step = max(16, (Self.sliceElements / depth) / 16 * 16)
        for start in stride(from: 0, to: columns, by: step) {
            let count = min(step, columns - start)
            let buffer = try entry.file.floats(of: entry.tensor, elements: start * depth..<(start + count) * depth)
            try body(
                MatrixSlice(
                    buffer: buffer, columns: count, depth: depth, columnStride: depth, depthStride: 1, place: place,
                    firstElement: start * depth))
        }
    }
}

extension AlignedBuffer {
    /// A copy of `elements`.
    convenience init<T: Numeric & BitwiseCopyable>(copying elements: [T]) {
        self.init(byteCount: elements.count * MemoryLayout<T>.stride)
        withMutableSpan(of: T.self) { span in
            for index in elements.indices { span[index] = elements[index] }
        }
    }
}

extension ByteView {
    /// The bytes as numbers.
    func elements<T: Numeric & BitwiseCopyable>() -> [T] {
        withSpan(of: T.self) { span in span.indices.map { span[$0] } }
    }
}
