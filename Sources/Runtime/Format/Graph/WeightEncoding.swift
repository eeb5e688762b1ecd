/// How a parameter's numbers lie in the file. A new weight format is a case here, its packer and its kernels.
package enum WeightEncoding: Hashable, Sendable {
    /// float32, row-major, each row padded with zeros to a multiple of 16: vectors and position tables.
    case rows
    /// float32 in panels of 16 outputs: `[n/16][k][16]`.
    case panels
    /// An encoding of per-output-channel symmetric int8 in T16 panels, with float32 scales and int32 column sums.
    case quantized(QuantizedPanels)

    /// int8 as it is multiplied.
    package static let qc8w = WeightEncoding.quantized(QuantizedPanels())

    /// One tensor of the file that holds a part of a parameter.
    package struct Part: Hashable, Sendable {
        package var name: String
        package var dtype: DType
        package var shape: [Int]
    }

    package var isQuantized: Bool { quantized != nil }

    package var quantized: QuantizedPanels? {
        if case .quantized(let panels) = self { panels } else { nil }
    }
}

/// What is left out of, or packed in, int8 T16 panels (docs/ARITHMETIC.md).
package struct QuantizedPanels: Hashable, Sendable {
    /// int4: inputs of an output that share a multiplier. nil: int8.
    package var groupSize: Int?
    /// Sparse: bytes of the packed non-zeros as stored, 64 zeros at their end and padding included. nil: dense.
    package var packedByteCount: Int?

    package init(groupSize: Int? = nil, packedByteCount: Int? = nil) {
        self.groupSize = groupSize
        self.packedByteCount = packedByteCount
    }

    /// Inputs that may share a multiplier.
    package static let groupSizes = [32, 64, 128]
}

// MARK: - Names in the file

extension WeightEncoding {
    package var name: String {
        switch self {
        case .rows: "f32"
        case .panels: "f32_p16"
        case .quantized(let panels):
            switch (panels.groupSize, panels.packedByteCount) {
            case (nil, nil): "qc8w_t16"
            case (.some, nil): "qc4w_t16"
            case (nil, .some): "qc8w_sparse_t16"
            case (.some, .some): "qc4w_sparse_t16"
            }
        }
    }

    /// The encoding of that name with the sizes that belong to it; nil where there is none, or a size is missing or too much.
    package init?(name: String, groupSize: Int?, packedByteCount: Int?) {
        let panels = WeightEncoding.quantized(
            QuantizedPanels(groupSize: groupSize, packedByteCount: packedByteCount))
        let isPlain = groupSize == nil && packedByteCount == nil
        switch name {
        case WeightEncoding.rows.name where isPlain: self = .rows
        case WeightEncoding.panels.name where isPlain: self = .panels
        case panels.name: self = panels
        default: return nil
        }
    }
}

// MARK: - Tensors

extension Parameter {
    /// n: outputs of a matrix, or the elements of a vector.
    package var columns: Int { shape.count == 2 ? shape[0] : 1 }
    /// k: inputs of a matrix, or the elements of a vector.
    package var depth: Int { shape[shape.count - 1] }

    /// The tensors that hold this parameter, in file order. The first carries the parameter's name. A validated parameter's
    /// sizes fit Int.
    package var parts: [WeightEncoding.Part] {
        let n16 = columns.roundedUp(to: 16)
        switch encoding {
        case .rows:
            let shape = shape.dropLast() + [depth.roundedUp(to: 16)]
            return [.init(name: name, dtype: .f32, shape: Array(shape))]
        case .panels:
            return [.init(name: name, dtype: .f32, shape: [n16 / 16, depth, 16])]
        case .quantized(let panels):
            return parts(panels, panelCount: n16 / 16, blocks: depth.roundedUp(to: 64) / 64)
        }
    }

    /// `values`, `scales`, `column_sums`, then `multipliers` of int4, then `masks` and `starts` of sparse weights.
    private func parts(_ panels: QuantizedPanels, panelCount: Int, blocks: Int) -> [WeightEncoding.Part] {
        var parts: [WeightEncoding.Part] = []
        if let byteCount = panels.packedByteCount {
            parts.append(.init(name: name, dtype: .u8, shape: [byteCount]))
        } else if panels.groupSize != nil {
            parts.append(.init(name: name, dtype: .u8, shape: [panelCount, blocks, 512]))
        } else {
            parts.append(.init(name: name, dtype: .i8, shape: [panelCount, blocks, 1024]))
        }
        parts.append(.init(name: "\(name).scales", dtype: .f32, shape: [panelCount * 16]))
        parts.append(.init(name: "\(name).column_sums", dtype: .i32, shape: [panelCount * 16]))
        if let groupSize = panels.groupSize {
            // [n/16][⌈K/g⌉][16], without padding between panels.
            let groups = (blocks * 64 + groupSize - 1) / groupSize
            parts.append(
                .init(name: "\(name).multipliers", dtype: .i8, shape: [(panelCount * groups * 16).roundedUp(to: 64)]))
        }
        if panels.packedByteCount != nil {
            parts.append(.init(name: "\(name).masks", dtype: .u64, shape: [panelCount, blocks * 16]))
            parts.append(.init(name: "\(name).starts", dtype: .u32, shape: [panelCount.roundedUp(to: 16)]))
        }
        return parts
    }
}

extension Int {
    package func roundedUp(to multiple: Int) -> Int { (self + multiple - 1) / multiple * multiple }
}
