import LatheFormat

/// The lines of a file, one after the other; no more than one of them, and a piece of the file, is in memory.
struct LineReader {
    struct Line {
        /// From 1.
        let number: Int
        /// Without its end; nil where there are more than allowed.
        let bytes: [UInt8]?
        let byteCount: Int
        /// Where the next line begins in the file.
        let end: Int
        /// False for a last line without a newline.
        let isTerminated: Bool

        /// Nothing but white space.
        var isBlank: Bool { bytes?.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D } ?? false }
    }

    private static let pieceBytes = 256 << 10
    private static let newline = UInt8(ascii: "\n")

    private let file: InputFile
    private let maximumByteCount: Int
    private let buffer = AlignedBuffer(byteCount: pieceBytes)
    // What has been read and not yet given out.
    private var piece: ArraySlice<UInt8> = []
    private var readOffset = 0
    private var number = 0

    init(_ file: InputFile, maximumByteCount: Int) {
        self.file = file
        self.maximumByteCount = maximumByteCount
    }

    mutating func next() throws(LatheError) -> Line? {
        var bytes: [UInt8]? = []
        var byteCount = 0
        while true {
            if piece.isEmpty {
                guard try readPiece() else { return byteCount == 0 ? nil : line(bytes, byteCount, isTerminated: false) }
            }
            let end = piece.firstIndex(of: Self.newline)
            let part = piece[..<(end ?? piece.endIndex)]
            byteCount += part.count
            if byteCount <= maximumByteCount { bytes?.append(contentsOf: part) } else { bytes = nil }
            piece = piece[(end.map { $0 + 1 } ?? piece.endIndex)...]
            if end != nil { return line(bytes, byteCount, isTerminated: true) }
        }
    }

    private mutating func line(_ bytes: [UInt8]?, _ byteCount: Int, isTerminated: Bool) -> Line {
        number += 1
        return Line(
            number: number, bytes: bytes, byteCount: byteCount, end: readOffset - piece.count,
            isTerminated: isTerminated)
    }

    /// - Returns: false at the file's end.
    private mutating func readPiece() throws(LatheError) -> Bool {
        let count = min(Self.pieceBytes, file.byteCount - readOffset)
        if count == 0 { return false }
        try file.read(offset: readOffset, count: count, into: buffer)
        readOffset += count
        piece = buffer.view.slice(offset: 0, count: count).array()[...]
        return true
    }
}
