/// The printable character that stands for each byte in a byte-level vocabulary.
///
/// Bytes that are printable in Latin-1 stand for themselves; the 68 others are, in ascending order, U+0100 and up
/// (Radford et al., "Language models are unsupervised multitask learners", 2019, as published with GPT-2).
package enum ByteAlphabet {
    private static func isPrintable(_ byte: UInt8) -> Bool {
        (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE
    }

    /// The UTF-8 of the character for each byte: one or two bytes.
    package static let spellings: [[UInt8]] = {
        var hidden: UInt32 = 0x100
        return (UInt8.min...UInt8.max).map { byte in
            var code = UInt32(byte)
            if !isPrintable(byte) {
                code = hidden
                hidden += 1
            }
            // Below U+0800: the one- and two-byte forms of UTF-8 are all there is.
            return code < 0x80 ? [UInt8(code)] : [UInt8(0xC0 | code >> 6), UInt8(0x80 | code & 0x3F)]
        }
    }()

    /// The byte for each code point below U+0144, nil where none is.
    private static let bytes: [UInt8?] = {
        var bytes = [UInt8?](repeating: nil, count: 0x144)
        for (byte, spelling) in spellings.enumerated() {
            let code = spelling.count == 1 ? Int(spelling[0]) : Int(spelling[0] & 0x1F) << 6 | Int(spelling[1] & 0x3F)
            bytes[code] = UInt8(byte)
        }
        return bytes
    }()

    /// The bytes that `text` (UTF-8) spells, nil if it holds a character outside the alphabet.
    package static func bytes(spelledBy text: some Collection<UInt8>) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        var lead: Int?
        for byte in text {
            var code = Int(byte)
            if let first = lead {
                code = (first & 0x1F) << 6 | code & 0x3F
                lead = nil
            } else if byte >= 0xC0 {
                // Lead bytes of longer forms give code points beyond the alphabet, or none at all.
                if byte >= 0xE0 { return nil }
                lead = code
                continue
            } else if byte >= 0x80 {
                return nil
            }
            guard code < bytes.count, let spelled = bytes[code] else { return nil }
            result.append(spelled)
        }
        return lead == nil ? result : nil
    }

    /// The UTF-8 of the characters that stand for `bytes`.
    package static func spelling(of bytes: some Sequence<UInt8>) -> [UInt8] { bytes.flatMap { spellings[Int($0)] } }
}
