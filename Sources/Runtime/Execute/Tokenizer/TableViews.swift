import LatheFormat

// Views of the file's bytes become spans here, once per call, so that the loops over them are compiled with their
// bounds checks in place.

/// A table of little-endian 32-bit words, used where it lies.
struct WordTable: Sendable {
    private let bytes: ByteView
    /// Words.
    let count: Int

    /// - Precondition: `bytes` holds at least `count` words.
    init(_ bytes: ByteView, count: Int) {
        precondition(count >= 0 && count <= bytes.count / 4)
        let exact = bytes.slice(offset: 0, count: count * 4)
        // A file's tensors are aligned; a table from elsewhere is copied if it is not.
        self.bytes = exact.isAligned(to: UInt32.self) ? exact : ByteView(copying: exact)
        self.count = count
    }

    subscript(index: Int) -> UInt32 { bytes.load(index, as: UInt32.self) }

    func withSpan<R, E: Error>(_ body: (Span<UInt32>) throws(E) -> R) throws(E) -> R {
        // Aligned by the initializer.
        try bytes.withSpan(of: UInt32.self, body)
    }
}

extension ByteView {
    func withSpan<R, E: Error>(_ body: (Span<UInt8>) throws(E) -> R) throws(E) -> R {
        try withSpan(of: UInt8.self, body)
    }

    /// Appends `self[range]` to `result`; traps outside the view.
    func append(_ range: Range<Int>, to result: inout [UInt8]) {
        slice(offset: range.lowerBound, count: range.count).withSpan(of: UInt8.self) { part in
            for index in part.indices { result.append(part[index]) }
        }
    }
}
