import LatheFormat

/// The fields of a request's body, taken one by one. A field that nobody took is refused at the end: it is a misspelling, or
/// asks for something that would silently not happen.
struct Fields {
    private let object: JSONObject
    private var taken: Set<String> = []

    /// Deep enough for every request that there is.
    private static let maximumDepth = 8
    /// Each takes up to a hundred bytes for a moment.
    private static let maximumValueCount = 1 << 16

    init(body: [UInt8]) throws(ServiceError) {
        let value: JSON
        do {
            value = try JSON.parse(
                body, source: "the request body", maximumDepth: Self.maximumDepth,
                maximumValueCount: Self.maximumValueCount, code: .invalidRequest)
        } catch {
            throw ServiceError(error)
        }
        guard case .object(let object) = value else {
            throw .invalid("The request body is \(value.kind); it must be a JSON object.")
        }
        self.object = object
    }

    /// nil where the field is absent or null.
    mutating func value(_ name: String) -> JSON? {
        taken.insert(name)
        return object.valueIfPresent(name)
    }

    mutating func integer(_ name: String, in range: ClosedRange<Int>) throws(ServiceError) -> Int? {
        guard let value = value(name) else { return nil }
        guard let number = Self.integer(value) else {
            throw .invalid("\"\(name)\" is \(value.kind); it must be a whole number.", param: name)
        }
        guard range.contains(number) else {
            throw .invalid(
                "\"\(name)\" is \(number); it must be from \(range.lowerBound) to \(range.upperBound).", param: name)
        }
        return number
    }

    /// - Parameter allows: what the number must be, besides finite, and the words for it.
    mutating func number(
        _ name: String, _ words: String, allows: (Double) -> Bool
    ) throws(ServiceError) -> Float? {
        guard let value = value(name) else { return nil }
        guard case .number(let digits) = value, let number = Double(digits), Float(number).isFinite, allows(number)
        else { throw .invalid("\"\(name)\" is \(value.kind); it must be \(words).", param: name) }
        // What is above zero stays above it.
        return number > 0 ? max(Float(number), .leastNormalMagnitude) : Float(number)
    }

    mutating func bool(_ name: String) throws(ServiceError) -> Bool? {
        guard let value = value(name) else { return nil }
        guard case .bool(let bool) = value else {
            throw .invalid("\"\(name)\" is \(value.kind); it must be true or false.", param: name)
        }
        return bool
    }

    mutating func string(_ name: String) throws(ServiceError) -> String? {
        guard let value = value(name) else { return nil }
        guard case .string(let string) = value else {
            throw .invalid("\"\(name)\" is \(value.kind); it must be a string.", param: name)
        }
        return string
    }

    /// A seed: any 64-bit number; negative ones as their two's complement.
    mutating func seed(_ name: String) throws(ServiceError) -> UInt64? {
        guard let value = value(name) else { return nil }
        guard case .number(let digits) = value,
            let seed = UInt64(digits) ?? Self.integer(value).map({ UInt64(bitPattern: Int64($0)) })
        else { throw .invalid("\"\(name)\" is \(value.kind); it must be a whole number of 64 bits.", param: name) }
        return seed
    }

    /// One stop string or a list of them.
    mutating func stop(_ name: String) throws(ServiceError) -> [String] {
        guard let value = value(name) else { return [] }
        let texts: [JSON] = if case .array(let elements) = value { elements } else { [value] }
        guard texts.count <= RequestLimits.stopCount else {
            throw .invalid(
                "\"\(name)\" has \(texts.count) strings; there may be \(RequestLimits.stopCount) at most.", param: name)
        }
        var stops: [String] = []
        for text in texts {
            guard case .string(let string) = text else {
                throw .invalid("\"\(name)\" holds \(text.kind); it must be strings.", param: name)
            }
            let length = string.unicodeScalars.count
            guard (1...RequestLimits.stopLength).contains(length) else {
                throw .invalid(
                    """
                    A string in "\(name)" has \(length) characters; it must have from 1 to \
                    \(RequestLimits.stopLength).
                    """, param: name)
            }
            stops.append(string)
        }
        return stops
    }

    /// - Throws: 404 where another model than `name` is asked for.
    mutating func requireModel(_ name: String) throws(ServiceError) {
        guard let model = try string("model"), model != name else { return }
        throw .notFound(
            "The model \(quoted(model)) is not served here; \(quoted(name)) is.", param: "model",
            code: "model_not_found")
    }

    /// Fields of the API that mean nothing here, accepted at the value that changes nothing.
    mutating func requireNeutral(_ name: String, _ words: String, _ isNeutral: (JSON) -> Bool) throws(ServiceError) {
        guard let value = value(name), !isNeutral(value) else { return }
        throw .invalid("\"\(name)\" is not supported here; leave it out, or give \(words).", param: name)
    }

    /// - Throws: naming the first field that nobody took.
    func requireNothingElse() throws(ServiceError) {
        if let unknown = object.members.first(where: { !taken.contains($0.key) }) {
            let known = taken.sorted().joined(separator: ", ")
            throw .invalid(
                "The field \(quoted(unknown.key)) is unknown here; known are \(known).", param: unknown.key,
                code: "unknown_field")
        }
    }

    /// Whole numbers may be written with a fraction of zeros, as some clients do.
    static func integer(_ value: JSON) -> Int? {
        guard case .number(let digits) = value else { return nil }
        if let number = Int(digits) { return number }
        guard let number = Double(digits), number.rounded() == number, abs(number) < 0x1p53 else { return nil }
        return Int(number)
    }
}

/// Bounds that no model changes.
package enum RequestLimits {
    package static let stopCount = 16
    /// Unicode scalars.
    package static let stopLength = 256
    /// Prompts of one call, and continuations of one prompt.
    package static let promptCount = 1024
    package static let choiceCount = 32
    package static let topLogProbabilities = 20
    package static let defaultNewTokens = 64
    /// As OpenAI's API has it.
    package static let defaultCompletionTokens = 16
}
