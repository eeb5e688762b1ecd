import LatheFormat

/// The keys that requests may carry.
struct KeyRing: Sendable {
    private let keys: [[UInt8]]

    static let minimumByteCount = 8

    /// - Parameter text: a key on each line; empty lines and those that begin with `#` are left out.
    /// - Throws: `invalidRequest` naming file and line, never the key.
    init(_ text: String, source: String) throws(LatheError) {
        var keys: [[UInt8]] = []
        var number = 0
        for line in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
            number += 1
            let key = line.drop { $0 == " " || $0 == "\t" }
            var bytes = Array(key.utf8)
            while bytes.last == UInt8(ascii: " ") || bytes.last == UInt8(ascii: "\t") { bytes.removeLast() }
            if bytes.isEmpty || bytes[0] == UInt8(ascii: "#") { continue }
            guard bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
                throw LatheError(
                    .invalidRequest,
                    "\(quoted(source)): line \(number) holds spaces or letters beyond ASCII; no header could carry it.")
            }
            guard bytes.count >= Self.minimumByteCount else {
                throw LatheError(
                    .invalidRequest,
                    "\(quoted(source)): the key on line \(number) has less than \(Self.minimumByteCount) letters; "
                        + "take a long random one.")
            }
            keys.append(bytes)
        }
        guard !keys.isEmpty else {
            throw LatheError(.invalidRequest, "\(quoted(source)) holds no key; write one on a line.")
        }
        self.keys = keys
    }

    /// The number of the key that `authorization` carries, counted from 1.
    ///
    /// Every key is compared, and each in a time that depends on the lengths alone, so that none can be guessed letter
    /// by letter.
    func number(in authorization: String?) -> Int? {
        guard let authorization, authorization.utf8.count > 7, authorization.prefix(7).lowercased() == "bearer " else {
            return nil
        }
        let presented = Array(authorization.utf8.dropFirst(7).drop { $0 == UInt8(ascii: " ") })
        var found = 0
        for (index, key) in keys.enumerated() {
            var difference = presented.count ^ key.count
            for position in presented.indices {
                difference |= Int(presented[position] ^ key[position % key.count])
            }
            // Without a branch that depends on the bytes.
            let isSame = ((difference - 1) >> (Int.bitWidth - 1)) & 1
            found |= isSame &* (index + 1)
        }
        return found == 0 ? nil : found
    }
}
