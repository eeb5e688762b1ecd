import LatheFormat

/// Encodes one matrix and writes its tensors, slice by slice. Where it depends on the bytes that come out how it is stored,
/// the encoded slices are kept until that is known, or encoded again where memory does not hold them.
struct MatrixWriter {
    let writer: LatheFileWriter
    let source: WeightSource
    /// Without open questions, from `RecipePlan`.
    let format: TensorFormat
    let schedule: MatrixSchedule
    let workspace: Workspace

    struct Outcome {
        let encoding: WeightEncoding
        let error: EncodingError
    }

    func write(_ provided: ProvidedMatrix?) throws(LatheError) -> Outcome {
        let size = PanelSize(columns: source.shape[0], depth: source.shape[1], encoding: format.denseEncoding)
        let numbers = try workspace.ledger.reserve(
            MatrixSchedule.gatheredByteCount(size), .windows, for: "the scales of \(source.place)")
        defer { withExtendedLifetime(numbers) {} }
        guard format.sparse == .on || format.sparse == .auto else {
            return try writeDense { body throws(LatheError) in try forEachPart(provided, body) }
        }
        if schedule.encodesTwice, provided == nil {
            return try writeSmaller { body throws(LatheError) in try forEachPart(nil, body) }
        }
        var parts: [EncodedMatrix] = []
        try forEachPart(provided) { part throws(LatheError) in parts.append(part) }
        return try writeSmaller { body throws(LatheError) in
            for part in parts { try body(part) }
        }
    }

    /// Calls its argument with the encoded matrix, part by part.
    private typealias Parts = ((EncodedMatrix) throws(LatheError) -> Void) throws(LatheError) -> Void

    private func forEachPart(
        _ provided: ProvidedMatrix?, _ body: (EncodedMatrix) throws(LatheError) -> Void
    ) throws(LatheError) {
        switch provided {
        case nil:
            try source.forEachSlice(of: schedule.step, ledger: workspace.ledger) { slice throws(LatheError) in
                try body(try format.encoder.encode(slice, in: workspace))
            }
        case .weights(let matrix, let importance):
            precondition([matrix.rows, matrix.columns] == source.shape, "a provided matrix has its parameter's shape")
            let slice = MatrixSlice(matrix, importance: importance, name: source.name)
            try body(try format.encoder.encode(slice, in: workspace))
        case .encoded(let matrix):
            precondition(
                [matrix.columns, matrix.depth] == source.shape && matrix.encoding == format.denseEncoding,
                "a provided matrix has its parameter's shape and format")
            try body(matrix)
        }
    }

    // MARK: Dense

    private func declare(_ encoding: WeightEncoding) {
        let parameter = Parameter(name: source.name, shape: source.shape, encoding: encoding)
        writer.declare(parameter.declarations)
    }

    private func writeDense(_ forEachPart: Parts) throws(LatheError) -> Outcome {
        declare(format.denseEncoding)
        var rest = PanelNumbers()
        try forEachPart { part throws(LatheError) in
            try writer.writePiece(part.values)
            rest.append(part)
        }
        try write(rest)
        return Outcome(encoding: format.denseEncoding, error: rest.error)
    }

    /// What stands behind the values: small beside them, so it is gathered.
    private struct PanelNumbers {
        var scales: [Float] = []
        var columnSums: [Int32] = []
        var multipliers: [Int8] = []
        var error = EncodingError()

        mutating func append(_ part: EncodedMatrix) {
            scales += part.scales
            columnSums += part.columnSums
            multipliers += part.multipliers
            for panel in part.panelErrors { error += panel }
        }
    }

    private func write(_ numbers: PanelNumbers) throws(LatheError) {
        guard format.denseEncoding.isQuantized else { return }
        try writer.write(AlignedBuffer(copying: numbers.scales))
        try writer.write(AlignedBuffer(copying: numbers.columnSums))
        if format.weights == .int4 { try writer.write(AlignedBuffer(copying: numbers.multipliers.padded())) }
    }

    // MARK: Sparse

    /// Without zeros where the recipe says so, or where that takes fewer bytes and is left to us.
    private func writeSmaller(_ forEachPart: Parts) throws(LatheError) -> Outcome {
        var sparse = SparseWeights(format.denseEncoding, in: workspace)
        try forEachPart { part throws(LatheError) in try sparse.count(part) }
        if sparse.isTooLarge {
            guard format.sparse == .auto else {
                throw LatheError(
                    .unsupported,
                    "\(source.place) has \(sparse.encoding.packedByteCount!) bytes of non-zeros; sparse matrices can have 4 "
                        + "GB. Store it dense.")
            }
            return try writeDense(forEachPart)
        }
        let encoding = WeightEncoding.quantized(sparse.encoding)
        guard format.sparse == .on || byteCount(encoding) < byteCount(format.denseEncoding) else {
            return try writeDense(forEachPart)
        }
        declare(encoding)
        var index = SparseWeights.Index()
        var rest = PanelNumbers()
        var count = 0
        try forEachPart { part throws(LatheError) in
            try sparse.pack(part, part: count, into: &index) { bytes throws(LatheError) in
                try writer.writePiece(bytes)
            }
            rest.append(part)
            count += 1
        }
        try writer.writePiece(sparse.tail)
        try write(rest)
        for masks in index.masks { try writer.writePiece(masks) }
        try writer.write(AlignedBuffer(copying: index.starts.padded()))
        return Outcome(encoding: encoding, error: rest.error)
    }

    /// Of all tensors of the matrix in the file.
    private func byteCount(_ encoding: WeightEncoding) -> Int {
        Parameter(name: source.name, shape: source.shape, encoding: encoding).declarations.reduce(0) {
            $0 + $1.byteCount
        }
    }
}

extension Parameter {
    /// The tensors that hold this parameter, for writing.
    var declarations: [TensorDeclaration] {
        parts.map { TensorDeclaration(name: $0.name, dtype: $0.dtype, shape: $0.shape) }
    }
}

extension Array where Element: FixedWidthInteger {
    /// Followed by zeros up to a multiple of 64 bytes.
    fileprivate func padded() -> [Element] {
        self + [Element](repeating: 0, count: count.roundedUp(to: 512 / Element.bitWidth) - count)
    }
}
