import LatheFormat

/// `qc8w`: per-output-channel symmetric int8 in T16 panels (docs/ARITHMETIC.md).
struct Int8Weights: WeightFormat {
    func encode(_ slice: MatrixSlice, in workspace: Workspace) throws(LatheError) -> EncodedMatrix {
        try Packing.packInt8(slice, in: workspace)
    }
}
