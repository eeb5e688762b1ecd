extension JSON {
    /// Reads one JSON value, strictly by RFC 8259: every key once, well-formed UTF-8, paired surrogates, nothing after the
    /// value but white space. Time is linear in the bytes.
    ///
    /// - Parameters:
    ///   - source: what the bytes are, for messages: a path, or "the request body".
    ///   - maximumDepth: how many arrays and objects may stand one inside another.
    ///   - maximumValueCount: how many values there may be in all. A value takes up to a hundred bytes of memory and may be
    ///     written in two, so this is what bounds the memory that a hostile text can take.
    ///   - code: of the error thrown when the bytes are not such a value; the message names `source` and the byte offset.
    package static func parse(
        _ bytes: ByteView, source: String, maximumDepth: Int = 64, maximumValueCount: Int = 1 << 22,
        code: LatheError.Code = .corrupt
    ) throws(LatheError) -> JSON {
        try parse(
            bytes.array(), source: source, maximumDepth: maximumDepth, maximumValueCount: maximumValueCount, code: code)
    }

    package static func parse(
        _ bytes: [UInt8], source: String, maximumDepth: Int = 64, maximumValueCount: Int = 1 << 22,
        code: LatheError.Code = .corrupt
    ) throws(LatheError) -> JSON {
        // The parser recurses: a deeper limit would need a look at the stack of the smallest thread.
        precondition(maximumDepth >= 0 && maximumDepth <= 256)
        var parser = JSONParser(
            bytes: bytes, source: source, maximumDepth: maximumDepth, maximumValueCount: maximumValueCount, code: code)
        return try parser.parseDocument()
    }

    /// Reads a JSON file: a configuration, a tokenizer, the index of a sharded checkpoint.
    package static func parse(path: String, maximumByteCount: Int = 256 << 20) throws(LatheError) -> JSON {
        let bytes = try InputFile.open(path: path).readAll(maximumByteCount: maximumByteCount)
        if let other = foreignFormat(bytes) {
            throw LatheError(.corrupt, "\(quoted(path)) is no JSON file: \(other)")
        }
        return try parse(bytes, source: quoted(path))
    }
}

private struct JSONParser {
    let bytes: [UInt8]
    let source: String
    let maximumDepth: Int
    let maximumValueCount: Int
    let code: LatheError.Code
    private var position = 0
    private var valueCount = 0

    init(bytes: [UInt8], source: String, maximumDepth: Int, maximumValueCount: Int, code: LatheError.Code) {
        self.bytes = bytes
        self.source = source
        self.maximumDepth = maximumDepth
        self.maximumValueCount = maximumValueCount
        self.code = code
    }

    mutating func parseDocument() throws(LatheError) -> JSON {
        skipWhitespace()
        if position == bytes.count { throw failure("there is no JSON value") }
        let value = try parseValue(depth: 0)
        skipWhitespace()
        if position < bytes.count { throw failure("something follows the JSON value") }
        return value
    }

    // MARK: Values

    private mutating func parseValue(depth: Int) throws(LatheError) -> JSON {
        guard position < bytes.count else { throw failure("the JSON ends where a value should stand") }
        valueCount += 1
        if valueCount > maximumValueCount { throw failure("there are more than \(maximumValueCount) values") }
        switch bytes[position] {
        case UInt8(ascii: "\""): return .string(try parseString())
        case UInt8(ascii: "{"): return .object(try parseObject(depth: depth + 1))
        case UInt8(ascii: "["): return .array(try parseArray(depth: depth + 1))
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try parseNumber())
        case UInt8(ascii: "t"): return try parseWord("true", .bool(true))
        case UInt8(ascii: "f"): return try parseWord("false", .bool(false))
        case UInt8(ascii: "n"): return try parseWord("null", .null)
        default: throw failure("a JSON value should stand here")
        }
    }

    private mutating func parseWord(_ word: StaticString, _ value: JSON) throws(LatheError) -> JSON {
        for expected in word.description.utf8 {
            guard take(expected) else { throw failure("\(word) should stand here") }
        }
        return value
    }

    private mutating func parseArray(depth: Int) throws(LatheError) -> [JSON] {
        try checkDepth(depth)
        position += 1
        skipWhitespace()
        if take(UInt8(ascii: "]")) { return [] }
        var elements: [JSON] = []
        while true {
            elements.append(try parseValue(depth: depth))
            skipWhitespace()
            if take(UInt8(ascii: "]")) { return elements }
            guard take(UInt8(ascii: ",")) else { throw failure("a comma or ']' should stand here") }
            skipWhitespace()
        }
    }

    private mutating func parseObject(depth: Int) throws(LatheError) -> JSONObject {
        try checkDepth(depth)
        position += 1
        skipWhitespace()
        var object = JSONObject()
        if take(UInt8(ascii: "}")) { return object }
        while true {
            guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
                throw failure("a key in quotation marks should stand here")
            }
            let keyOffset = position
            let key = try parseString()
            skipWhitespace()
            guard take(UInt8(ascii: ":")) else { throw failure("a colon should stand here") }
            skipWhitespace()
            let value = try parseValue(depth: depth)
            guard object.append(key, value) else {
                throw failure("the key \(quoted(key)) occurs twice in one object", at: keyOffset)
            }
            skipWhitespace()
            if take(UInt8(ascii: "}")) { return object }
            guard take(UInt8(ascii: ",")) else { throw failure("a comma or '}' should stand here") }
            skipWhitespace()
        }
    }

    private func checkDepth(_ depth: Int) throws(LatheError) {
        if depth > maximumDepth {
            throw failure("arrays and objects are nested more than \(maximumDepth) deep")
        }
    }

    // MARK: Numbers

    private mutating func parseNumber() throws(LatheError) -> String {
        let start = position
        _ = take(UInt8(ascii: "-"))
        if take(UInt8(ascii: "0")) {
            if atDigit { throw failure("a number must not begin with a needless zero", at: start) }
        } else {
            try skipDigits()
        }
        if take(UInt8(ascii: ".")) { try skipDigits() }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            try skipDigits()
        }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    private var atDigit: Bool {
        position < bytes.count && bytes[position] >= UInt8(ascii: "0") && bytes[position] <= UInt8(ascii: "9")
    }

    private mutating func skipDigits() throws(LatheError) {
        guard atDigit else { throw failure("a digit should stand here") }
        while atDigit { position += 1 }
    }

    // MARK: Strings

    private mutating func parseString() throws(LatheError) -> String {
        position += 1
        let start = position
        try skipPlainText()
        if take(UInt8(ascii: "\"")) { return String(decoding: bytes[start..<position - 1], as: UTF8.self) }
        var text = Array(bytes[start..<position])
        while !take(UInt8(ascii: "\"")) {
            try parseEscape(into: &text)
            let piece = position
            try skipPlainText()
            text.append(contentsOf: bytes[piece..<position])
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Moves to the next quotation mark or backslash; what it passed is well-formed UTF-8 without control characters.
    private mutating func skipPlainText() throws(LatheError) {
        while position < bytes.count {
            let byte = bytes[position]
            if byte >= 0x80 {
                position += try sequenceLength()
            } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") {
                return
            } else if byte < 0x20 {
                throw failure("a string holds a bare control character; it must be written as an escape")
            } else {
                position += 1
            }
        }
        throw failure("the JSON ends inside a string")
    }

    /// The length of the well-formed multi-byte sequence at `position` (Unicode standard, table 3-7).
    private func sequenceLength() throws(LatheError) -> Int {
        let first = bytes[position]
        var second: ClosedRange<UInt8> = 0x80...0xBF
        let length: Int
        switch first {
        case 0xC2...0xDF: length = 2
        case 0xE0: (length, second) = (3, 0xA0...0xBF)
        case 0xED: (length, second) = (3, 0x80...0x9F)
        case 0xE1...0xEF: length = 3
        case 0xF0: (length, second) = (4, 0x90...0xBF)
        case 0xF4: (length, second) = (4, 0x80...0x8F)
        case 0xF1...0xF3: length = 4
        default: throw failure("the text is not UTF-8")
        }
        guard length <= bytes.count - position, second.contains(bytes[position + 1]) else {
            throw failure("the text is not UTF-8")
        }
        for index in position + 2..<max(position + 2, position + length) where bytes[index] & 0xC0 != 0x80 {
            throw failure("the text is not UTF-8")
        }
        return length
    }

    private mutating func parseEscape(into text: inout [UInt8]) throws(LatheError) {
        let start = position
        position += 1  // the backslash
        guard position < bytes.count else { throw failure("the JSON ends inside a string") }
        let letter = bytes[position]
        position += 1
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(letter)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            let scalar = try parseEscapedScalar(start)
            text.append(contentsOf: String(Character(scalar)).utf8)
        default: throw failure("there is no escape of this letter", at: start)
        }
    }

    /// Behind `\u`: four digits, or a high surrogate's four and the low surrogate's escape.
    private mutating func parseEscapedScalar(_ start: Int) throws(LatheError) -> Unicode.Scalar {
        let unit = try parseFourDigits()
        if let scalar = Unicode.Scalar(unit) { return scalar }
        guard unit < 0xDC00, take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else {
            throw failure("a surrogate stands alone in an escape", at: start)
        }
        let low = try parseFourDigits()
        guard (0xDC00...0xDFFF).contains(low) else {
            throw failure("a surrogate stands alone in an escape", at: start)
        }
        let value = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
        guard let scalar = Unicode.Scalar(value) else { throw failure("an escape names no character", at: start) }
        return scalar
    }

    private mutating func parseFourDigits() throws(LatheError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard position < bytes.count, let digit = Self.hexadecimal(bytes[position]) else {
                throw failure("four hexadecimal digits should follow \\u")
            }
            value = value << 4 | digit
            position += 1
        }
        return value
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt32? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(byte - UInt8(ascii: "a")) + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(byte - UInt8(ascii: "A")) + 10
        default: nil
        }
    }

    // MARK: Steps

    private mutating func skipWhitespace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard position < bytes.count, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    private func failure(_ what: String, at offset: Int? = nil) -> LatheError {
        LatheError(code, "\(source) is not valid JSON: \(what), at byte \(offset ?? position).")
    }
}
