import LatheFormat

/// `qc4w`: int4 in groups of inputs with integer multipliers, an encoding of `qc8w` (docs/ARITHMETIC.md).
struct Int4Weights: WeightFormat {
    let groupSize: Int

    func encode(_ slice: MatrixSlice, in workspace: Workspace) throws(LatheError) -> EncodedMatrix {
        try Packing.packInt4(slice, groupSize: groupSize, in: workspace)
    }
}
