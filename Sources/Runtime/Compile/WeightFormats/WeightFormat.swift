import LatheFormat

/// Encodes a matrix for the `.lathe` file.
///
/// A new format is one file beside this one, a case of `WeightFormats` and of `WeightEncoding`, and a line in
/// `TensorFormat.encoder`.
protocol WeightFormat: Sendable {
    /// Encodes whole panels of 16 outputs; the panels of several slices may stand one after the other.
    func encode(_ slice: MatrixSlice, in workspace: Workspace) throws(LatheError) -> EncodedMatrix
}

/// What encoding works with: threads, and the account from which its memory is taken.
struct Workspace: Sendable {
    let threads: Int
    /// Category `windows`.
    let ledger: MemoryLedger

    init(threads: Int, ledger: MemoryLedger = MemoryLedger()) {
        self.threads = threads
        self.ledger = ledger
    }

    func buffer(_ byteCount: Int, for purpose: @autoclosure () -> String) throws(LatheError) -> AlignedBuffer {
        try ledger.buffer(byteCount, .windows, for: purpose())
    }
}

extension TensorFormat {
    var encoder: any WeightFormat {
        switch weights {
        case .float32: Float32Weights()
        case .int8: Int8Weights()
        case .int4: Int4Weights(groupSize: groupSize ?? Recipe.defaultGroupSize)
        }
    }
}

/// What an encoding made of a matrix's numbers.
package struct EncodingError: Sendable, BitwiseCopyable {
    /// Σ(w − ŵ)²
    package var squaredError = 0.0
    /// Σw²
    package var squaredWeights = 0.0
    /// Weights that are stored as zero.
    package var zeros = 0

    package init() {}

    /// ‖w − ŵ‖ / ‖w‖; 0 for a matrix of zeros.
    package var relative: Double { squaredWeights > 0 ? (squaredError / squaredWeights).squareRoot() : 0 }

    package static func += (total: inout EncodingError, part: EncodingError) {
        total.squaredError += part.squaredError
        total.squaredWeights += part.squaredWeights
        total.zeros += part.zeros
    }
}
