public import LatheFormat

extension Tokenizer {
    /// The text of `ids`, special tokens included. Bytes that are not well-formed UTF-8 become U+FFFD.
    ///
    /// - Throws: `invalidRequest` if an id is negative or not below `vocabularySize`.
    public func decode(_ ids: [Int32]) throws(LatheError) -> String {
        String(decoding: try decodeBytes(ids), as: UTF8.self)
    }

    /// The bytes of `ids`, special tokens included; they need not be well-formed UTF-8.
    ///
    /// - Throws: `invalidRequest` if an id is negative or not below `vocabularySize`.
    public func decodeBytes(_ ids: [Int32]) throws(LatheError) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(ids.count * 4)
        var isFirst = true
        for id in ids {
            try checkRange(id)
            append(id, isFirst: &isFirst, to: &bytes)
        }
        return bytes
    }

    /// - Parameter isFirst: whether no token came before; only spellings, which have spaces between them, care.
    func append(_ id: Int32, isFirst: inout Bool, to bytes: inout [UInt8]) {
        let kind = TokenKind(rawValue: storage.kinds[Int(id)])
        guard kind.contains(.used) else { return }
        let range = storage.range(of: Int(id))
        switch storage.decoder {
        case .bytes:
            storage.vocabularyBytes.append(range, to: &bytes)
        case .spelling:
            if !isFirst { bytes.append(UInt8(ascii: " ")) }
            if kind.contains(.literal) {
                storage.vocabularyBytes.append(range, to: &bytes)
            } else {
                for index in range {
                    bytes.append(contentsOf: ByteAlphabet.spellings[Int(storage.vocabularyBytes[index])])
                }
            }
        }
        isFirst = false
    }
}
