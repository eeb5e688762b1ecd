/// A tensor that will be written: everything about it but its bytes.
package struct TensorDeclaration: Hashable, Sendable {
    package let name: String
    package let dtype: DType
    /// Outermost dimension first; empty for a scalar.
    package let shape: [Int]
    package let byteCount: Int

    /// Traps on a negative dimension, a size beyond 2^63 bits, or packed elements that do not end on a byte.
    package init(name: String, dtype: DType, shape: [Int]) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
        guard case .bytes(let count) = tensorSize(dtype: dtype, shape: shape) else {
            preconditionFailure("the tensor \(quoted(name)) of \(dtype.rawValue) \(shape) has no byte count")
        }
        byteCount = count
    }
}

/// A tensor of a file.
package struct TensorInfo: Hashable, Sendable {
    package let name: String
    package let dtype: DType
    /// Outermost dimension first; empty for a scalar.
    package let shape: [Int]
    package let byteCount: Int
    /// Of the first byte, from the start of the file.
    package let fileOffset: Int

    package var elementCount: Int { shape.reduce(1, *) }
}

enum TensorSize {
    case bytes(Int)
    case overflow
    /// Packed elements that end within a byte.
    case partialByte
}

/// The bytes of a tensor; multiplied in the order of the shape, so that an overflow is one even if a later dimension is 0.
func tensorSize(dtype: DType, shape: [Int]) -> TensorSize {
    var count = 1
    for dimension in shape {
        guard dimension >= 0 else { return .overflow }
        let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
        if overflow { return .overflow }
        count = product
    }
    let (bits, overflow) = count.multipliedReportingOverflow(by: dtype.bitWidth)
    if overflow { return .overflow }
    return bits % 8 == 0 ? .bytes(bits / 8) : .partialByte
}
