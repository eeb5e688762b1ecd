import LatheFormat

/// Encodes one matrix and writes its tensors: slice by slice where the format is settled beforehand, whole where it depends
/// on the bytes that come out.
struct MatrixWriter {
    let writer: LatheFileWriter
    let source: WeightSource
    /// Without open questions, from `RecipePlan`.
    let format: TensorFormat
    let threads: Int

    struct Outcome {
        let encoding: WeightEncoding
        let error: EncodingError
    }

    func write(_ provided: ProvidedMatrix?) throws(LatheError) -> Outcome {
        if format.sparse == .on || format.sparse == .auto {
            return try writeSmaller(try encoded(provided))
        }
        return try writeDense(provided)
    }

    /// Calls `body` with the encoded matrix, part by part.
    private func forEachPart(
        _ provided: ProvidedMatrix?, _ body: (EncodedMatrix) throws(LatheError) -> Void
    ) throws(LatheError) {
        switch provided {
        case nil:
            try source.forEachSlice { slice throws(LatheError) in
                try body(try format.encoder.encode(slice, threads: threads))
            }
        case .weights(let matrix, let importance):
            precondition([matrix.rows, matrix.columns] == source.shape, "a provided matrix has its parameter's shape")
            let slice = MatrixSlice(matrix, importance: importance, name: source.name)
            try body(try format.encoder.encode(slice, threads: threads))
        case .encoded(let matrix):
            precondition(
                [matrix.columns, matrix.depth] == source.shape && matrix.encoding == format.denseEncoding,
                "a provided matrix has its parameter's shape and format")
            try body(matrix)
        }
    }

    private func encoded(_ provided: ProvidedMatrix?) throws(LatheError) -> [EncodedMatrix] {
        var parts: [EncodedMatrix] = []
        try forEachPart(provided) { part throws(LatheError) in parts.append(part) }
        return parts
    }

    // MARK: Dense

    private func declare(_ encoding: WeightEncoding) {
        let parameter = Parameter(name: source.name, shape: source.shape, encoding: encoding)
        writer.declare(parameter.declarations)
    }

    private func writeDense(_ provided: ProvidedMatrix?) throws(LatheError) -> Outcome {
        declare(format.denseEncoding)
        var rest = PanelNumbers()
        try forEachPart(provided) { part throws(LatheError) in
            try writer.writePiece(part.values)
            rest.append(part)
        }
        try write(rest)
        return Outcome(encoding: format.denseEncoding, error: rest.error)
    }

    private func writeDense(_ parts: [EncodedMatrix]) throws(LatheError) -> Outcome {
        declare(format.denseEncoding)
        var rest = PanelNumbers()
        for part in parts {
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
            error += part.error
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
    private func writeSmaller(_ parts: [EncodedMatrix]) throws(LatheError) -> Outcome {
        let sparse = SparseWeights(parts, threads: threads)
        if sparse.isTooLarge {
            guard format.sparse == .auto else {
                throw LatheError(
                    .unsupported,
                    "\(source.place) has \(sparse.encoding.packedByteCount!) bytes of non-zeros; sparse matrices can have 4 "
                        + "GB. Store it dense.")
            }
            return try writeDense(parts)
        }
        let encoding = WeightEncoding.quantized(sparse.encoding)
        guard format.sparse == .on || byteCount(encoding) < byteCount(format.denseEncoding) else {
            return try writeDense(parts)
        }
        declare(encoding)
        let index = try sparse.packValues { bytes throws(LatheError) in try writer.writePiece(bytes) }
        var rest = PanelNumbers()
        for part in parts { rest.append(part) }
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
