import LatheFormat

// The one file of the tokenizer where pointers occur: it turns views into spans, whose accesses are bounds-checked and
// compiled into the loops that make them.

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
        let aligned = unsafe exact.withUnsafeBytes { Int(bitPattern: $0.baseAddress) % 4 == 0 }
        self.bytes = aligned ? exact : ByteView(copying: exact.array())
        self.count = count
    }

    subscript(index: Int) -> UInt32 { bytes.load(index, as: UInt32.self) }

    func withSpan<R, E: Error>(_ body: (Span<UInt32>) throws(E) -> R) throws(E) -> R {
        try unsafe bytes.withUnsafeBytes { bytes throws(E) in
            // Aligned by the initializer, and every bit pattern is a word.
            try unsafe body(Span(_unsafeBytes: bytes))
        }
    }
}

extension ByteView {
    func withSpan<R, E: Error>(_ body: (Span<UInt8>) throws(E) -> R) throws(E) -> R {
        try unsafe withUnsafeBytes { bytes throws(E) in try unsafe body(Span(_unsafeBytes: bytes)) }
    }

    /// Appends `self[range]` to `result`; traps outside the view.
    func append(_ range: Range<Int>, to result: inout [UInt8]) {
        let part = slice(offset: range.lowerBound, count: range.count)
        unsafe part.withUnsafeBytes { unsafe result.append(contentsOf: $0) }
    }
}
