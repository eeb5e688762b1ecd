import LatheFormat

/// float32 in panels of 16 outputs: the exact path.
struct Float32Weights: WeightFormat {
    func encode(_ slice: MatrixSlice, in workspace: Workspace) throws(LatheError) -> EncodedMatrix {
        try Packing.packFloat32(slice, in: workspace)
    }
}
