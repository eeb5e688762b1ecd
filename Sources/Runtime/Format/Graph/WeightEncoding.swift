/// How a parameter's numbers lie in the file. A new weight format is a case here, its packer and its kernels.
package enum WeightEncoding: String, Hashable, Sendable, CaseIterable {
    /// float32, row-major, each row padded with zeros to a multiple of 16: vectors and position tables.
    case rows = "f32"
    /// float32 in panels of 16 outputs: `[n/16][k][16]`.
    case panels = "f32_p16"
    /// Per-output-channel symmetric int8 in T16 panels, with float32 scales and int32 column sums.
    case qc8w = "qc8w_t16"

    /// One tensor of the file that holds a part of a parameter.
    package struct Part: Hashable, Sendable {
        package var name: String
        package var dtype: DType
        package var shape: [Int]
    }
}

extension Parameter {
    /// n: outputs of a matrix, or the elements of a vector.
    package var columns: Int { shape.count == 2 ? shape[0] : 1 }
    /// k: inputs of a matrix, or the elements of a vector.
    package var depth: Int { shape[shape.count - 1] }

    /// The tensors that hold this parameter, in file order. The first carries the parameter's name.
    package var parts: [WeightEncoding.Part] {
        let n16 = columns.roundedUp(to: 16)
        switch encoding {
        case .rows:
            let shape = shape.dropLast() + [depth.roundedUp(to: 16)]
            return [.init(name: name, dtype: .f32, shape: Array(shape))]
        case .panels:
            return [.init(name: name, dtype: .f32, shape: [n16 / 16, depth, 16])]
        case .qc8w:
            return [
                .init(name: name, dtype: .i8, shape: [n16 / 16, depth.roundedUp(to: 64) / 64, 1024]),
                .init(name: "\(name).scales", dtype: .f32, shape: [n16]),
                .init(name: "\(name).column_sums", dtype: .i32, shape: [n16]),
            ]
        }
    }
}

extension Int {
    package func roundedUp(to multiple: Int) -> Int { (self + multiple - 1) / multiple * multiple }
}
