import LatheFormat

/// SHA-256 of a stream of bytes (FIPS 180-4).
struct SHA256 {
    private var state: [UInt32] = [
        0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
    ]
    private var pending: [UInt8] = []
    private var count = 0

    mutating func update(_ bytes: ByteView) {
        count += bytes.count
        var start = 0
        if !pending.isEmpty {
            start = min(64 - pending.count, bytes.count)
            pending += bytes.slice(offset: 0, count: start).array()
            guard pending.count == 64 else { return }
            compress(ByteView(copying: pending))
            pending = []
        }
        let whole = (bytes.count - start) / 64 * 64
        compress(bytes.slice(offset: start, count: whole))
        pending = bytes.slice(offset: start + whole, count: bytes.count - start - whole).array()
    }

    mutating func finish() -> String {
        var tail = pending + [0x80]
        while tail.count % 64 != 56 { tail.append(0) }
        let bits = UInt64(count) * 8
        for shift in stride(from: 56, through: 0, by: -8) {
            tail.append(UInt8(truncatingIfNeeded: bits >> UInt64(shift)))
        }
        compress(ByteView(copying: tail))
        return state.map { word in
            let digits = String(word, radix: 16)
            return String(repeating: "0", count: 8 - digits.count) + digits
        }.joined()
    }

    private mutating func compress(_ bytes: ByteView) {
        Packing.digestBlocks(bytes, into: &state)
    }

    /// The digest of the files' contents, one after the other: of a checkpoint in one file, what `sha256sum` prints.
    static func hexDigest(of files: [SafetensorsFile]) throws(LatheError) -> String {
        var digest = SHA256()
        for file in files {
            let input = try InputFile.open(path: file.path)
            let window = 8 << 20
            for offset in stride(from: 0, to: input.byteCount, by: window) {
                digest.update(try input.read(offset: offset, count: min(window, input.byteCount - offset)).view)
            }
        }
        return digest.finish()
    }
}
