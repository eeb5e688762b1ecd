import LatheFormat

/// float32 in panels of 16 outputs: the exact path.
enum Float32Weights: WeightFormat {
    static let name = "f32"
    static let encoding = WeightEncoding.panels

    static func encode(
        _ matrix: MatrixReader, threads: Int, write: (ByteView) throws(LatheError) -> Void
    ) throws(LatheError) -> EncodingError {
        try matrix.forEachSlice { slice throws(LatheError) in
            try write(try Packing.packFloat32(slice, threads: threads).view)
        }
        return EncodingError()
    }
}
