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
    /// Of the matrix's outputs, the one that the slice begins with.
    var firstColumn = 0
    /// Outputs of the whole matrix, where the tensor has them side by side.
    var rowLength: Int?
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
                "\(place) holds a value that is not finite at element \(element(bad)); such a checkpoint cannot "
                    + "be converted.")
        }
    }

    /// The number in the tensor of what is the slice's `index`-th element.
    private func element(_ index: Int) -> Int {
        guard let rowLength else { return firstColumn * depth + index }
        return index / columns * rowLength + firstColumn + index % columns
    }

    /// The largest number that a scale multiplies is 127; a product beyond float32 would poison every logit.
    func requireUsableScales(_ scales: [Float]) throws(LatheError) {
        if let bad = scales.firstIndex(where: { !($0 > 0 && ($0 * 127).isFinite) }) {
            throw LatheError(
                .notFinite,
                "\(place) holds weights of output \(firstColumn + bad) that are too large for quantized numbers "
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

    /// Calls `body` with slices of `step` outputs, in order, so that no more than a part of a large matrix is ever converted
    /// at once. Where the tensor has its outputs side by side, each slice reads all of it.
    /// - Parameter step: a multiple of 16, so that slices are whole panels.
    func forEachSlice(
        of step: Int, ledger: MemoryLedger, _ body: (MatrixSlice) throws(LatheError) -> Void
    ) throws(LatheError) {
        precondition(step > 0 && step % 16 == 0, "slices are whole panels")
        let (columns, depth) = (shape[0], shape[1])
        for start in stride(from: 0, to: columns, by: step) {
            let range = start..<min(start + step, columns)
            let buffer = try floats(columns: range, ledger: ledger)
            try body(
                MatrixSlice(
                    buffer: buffer, columns: range.count, depth: depth, columnStride: isTransposed ? 1 : depth,
                    depthStride: isTransposed ? range.count : 1, place: place, firstColumn: start,
                    rowLength: isTransposed ? columns : nil))
        }
    }

    /// Some outputs, as the tensor holds them: [columns, depth], or [depth, columns] where it is transposed.
    private func floats(columns: Range<Int>, ledger: MemoryLedger) throws(LatheError) -> AlignedBuffer {
        let (file, tensor, depth) = (entry.file, entry.tensor, shape[1])
        if isTransposed { return try file.floats(of: tensor, rows: 0..<depth, columns: columns, ledger: ledger) }
        return try file.floats(
            of: tensor, elements: columns.lowerBound * depth..<columns.upperBound * depth, ledger: ledger)
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
