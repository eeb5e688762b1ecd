/// A JSON value (RFC 8259) as a file wrote it.
///
/// Numbers keep their digits: what a number may be (a count, a 64-bit identifier, a float) is decided by whoever reads
/// the field, so nothing is rounded on the way. Objects keep the order of their members.
package enum JSON: Hashable, Sendable {
    case null
    case bool(Bool)
    /// The digits as written, always of the form that RFC 8259 calls `number`.
    case number(String)
    case string(String)
    case array([JSON])
    case object(JSONObject)
}

// MARK: - Building

extension JSON {
    package static func number(_ value: some FixedWidthInteger) -> JSON { .number(String(value)) }

    /// The shortest digits that read back as the same `Double`; traps on infinities and NaN, which JSON cannot say.
    package static func number(_ value: Double) -> JSON {
        precondition(value.isFinite, "JSON has no number for \(value)")
        return .number(value.description)
    }

    /// The shortest digits that read back as the same `Float`; traps on infinities and NaN, which JSON cannot say.
    package static func number(_ value: Float) -> JSON {
        precondition(value.isFinite, "JSON has no number for \(value)")
        return .number(value.description)
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int) { self = .number(value) }
    package init(floatLiteral value: Double) { self = .number(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(arrayLiteral elements: JSON...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, JSON)...) { self = .object(JSONObject(elements)) }
    package init(nilLiteral: ()) { self = .null }
}

// MARK: - Reading a value

extension JSON {
    /// For messages: what kind of value this is, with its article.
    package var kind: String {
        switch self {
        case .null: "null"
        case .bool(let value): value ? "true" : "false"
        case .number(let digits): "the number \(digits.utf8.count > 40 ? digits.prefix(40) + "…" : digits)"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }

    /// - Parameter place: which value of which file this is, for the message: `config.json: field "rope"`.
    package func string(at place: String) throws(LatheError) -> String {
        guard case .string(let value) = self else { throw mismatch(place, "a string") }
        return value
    }

    package func bool(at place: String) throws(LatheError) -> Bool {
        guard case .bool(let value) = self else { throw mismatch(place, "true or false") }
        return value
    }

    package func array(at place: String) throws(LatheError) -> [JSON] {
        guard case .array(let value) = self else { throw mismatch(place, "an array") }
        return value
    }

    package func object(at place: String) throws(LatheError) -> JSONObject {
        guard case .object(let value) = self else { throw mismatch(place, "an object") }
        return value
    }

    /// A whole number written with digits alone (`1.0`, `1e3` and `-0` are refused), at least `minimum`: by default a
    /// count, which cannot be negative.
    package func int(at place: String, minimum: Int = 0) throws(LatheError) -> Int {
        let wanted = minimum == 0 ? "a whole number that is not negative" : "a whole number"
        guard case .number(let digits) = self, digits != "-0",
            digits.utf8.allSatisfy({ $0 == UInt8(ascii: "-") || $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") })
        else { throw mismatch(place, wanted) }
        guard let value = Int(digits) else {
            throw LatheError(.corrupt, "\(place) is \(kind), beyond the range of 64-bit integers.")
        }
        guard value >= minimum else {
            throw LatheError(
                .corrupt, "\(place) is \(value); it must be \(minimum == 0 ? wanted : "at least \(minimum)").")
        }
        return value
    }

    /// The nearest `Double`; a number beyond its range is refused.
    package func double(at place: String) throws(LatheError) -> Double {
        guard case .number(let digits) = self else { throw mismatch(place, "a number") }
        guard let value = Double(digits), value.isFinite else {
            throw LatheError(.corrupt, "\(place) is \(kind), beyond the range of 64-bit floating point.")
        }
        return value
    }

    private func mismatch(_ place: String, _ wanted: String) -> LatheError {
        LatheError(.corrupt, "\(place) is \(kind); it must be \(wanted).")
    }
}
