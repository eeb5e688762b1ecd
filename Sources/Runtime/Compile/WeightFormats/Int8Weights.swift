import LatheFormat

/// `qc8w`: per-output-channel symmetric int8 in T16 panels (docs/ARITHMETIC.md).
enum Int8Weights: WeightFormat {
    static let name = "int8"
    static let encoding = WeightEncoding.qc8w

    static func encode(
        _ matrix: MatrixReader, threads: Int, write: (ByteView) throws(LatheError) -> Void
    ) throws(LatheError) -> EncodingError {
        var error = EncodingError()
        var scales: [Float] = []
        var columnSums: [Int32] = []
        try matrix.forEachSlice { slice throws(LatheError) in
            let packed = try Packing.packInt8(slice, threads: threads)
            try write(packed.weights.view)
            scales += packed.scales
            columnSums += packed.columnSums
            error += packed.error
        }
        try write(Packing.bytes(of: scales))
        try write(Packing.bytes(of: columnSums))
        return error
    }
}
