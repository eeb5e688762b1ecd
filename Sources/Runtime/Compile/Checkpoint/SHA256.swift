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
    ///
    /// Each file goes through the kernel's cache and out of it again.
    static func hexDigest(of files: [SafetensorsFile], ledger: MemoryLedger) throws(LatheError) -> String {
        var digest = SHA256()
        let window = try ledger.buffer(windowByteCount, .windows, for: "the checksum of the checkpoint")
        for file in files {
            let input = try InputFile.open(path: file.path)
            for offset in stride(from: 0, to: input.byteCount, by: windowByteCount) {
                let count = min(windowByteCount, input.byteCount - offset)
                try input.read(offset: offset, count: count, into: window)
                input.dropPageCache(offset: offset, count: count)
                digest.update(window.view.slice(offset: 0, count: count))
            }
            input.dropPageCache()
        }
        return digest.finish()
    }

    static let windowByteCount = 1 << 18
}
