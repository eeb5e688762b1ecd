import LatheFormat

/// A line of a batch's input: a call, or what is wrong with it.
struct BatchRequest: Sendable {
    enum Content: Sendable {
        case call(path: String, body: [UInt8])
        case refused(ServiceError)
    }

    /// Sixteen digits, from the run, the line's number and its bytes: the same in every run of the same batch.
    let digits: String
    /// nil where the line has none that could be read.
    let customID: String?
    let content: Content
    /// Of the line.
    let byteCount: Int

    /// What an answer's `id` is.
    var id: String { "batch_req_" + digits }

    static let maximumLineBytes = 1 << 20
    static let paths = ["/v1/completions", "/generate"]

    /// - Parameter run: what all lines have in common.
    init(_ line: LineReader.Line, run: BatchIdentity, seen: inout CustomIDs) {
        digits = run.digits(of: line)
        byteCount = line.byteCount
        var customID: String?
        do throws(ServiceError) {
            content = try Self.call(line, run: run, seen: &seen, customID: &customID)
        } catch {
            content = .refused(error)
        }
        self.customID = customID
    }

    private static func call(
        _ line: LineReader.Line, run: BatchIdentity, seen: inout CustomIDs, customID: inout String?
    ) throws(ServiceError) -> Content {
        let place = "Line \(line.number)"
        guard let bytes = line.bytes else {
            throw ServiceError(
                status: 413, type: "invalid_request_error",
                message: "\(place) has \(line.byteCount) bytes; a line may have \(maximumLineBytes) at most.",
                code: "line_too_long")
        }
        let object = try object(bytes, place)
        let id = try string("custom_id", of: object, place)
        guard !id.isEmpty else {
            throw .invalid("\(place): \"custom_id\" is empty.", param: "custom_id", code: "invalid_custom_id")
        }
        customID = id
        guard seen.insert(id) else {
            throw .invalid(
                "\(place): an earlier line has the \"custom_id\" \(quoted(id)) already.", param: "custom_id",
                code: "duplicate_custom_id")
        }
        let method = try string("method", of: object, place)
        guard method == "POST" else {
            throw .invalid(
                "\(place): \"method\" is \(quoted(method)); it must be \"POST\".", param: "method",
                code: "invalid_method")
        }
        let path = try string("url", of: object, place)
        guard paths.contains(path) else {
            throw .invalid(
                "\(place): \"url\" is \(quoted(path)); a batch takes \(paths.joined(separator: " and ")).",
                param: "url",
                code: "invalid_url")
        }
        guard case .object(let body) = object["body"] else {
            throw .invalid(
                "\(place): \"body\" \(object["body"].map { "is \($0.kind)" } ?? "is missing"); it must be an object.",
                param: "body", code: "invalid_body")
        }
        if body["stream"] == true {
            throw .invalid(
                "\(place): \"stream\" is true; an answer in a file is whole: leave it out.", param: "stream",
                code: "stream_in_batch")
        }
        return .call(path: path, body: JSON.object(seeded(body, run.seed(of: id))).serializedBytes())
    }

    private static func object(_ bytes: [UInt8], _ place: String) throws(ServiceError) -> JSONObject {
        let value: JSON
        do {
            // As deep and as many as a body may be, and what is around it.
            value = try JSON.parse(
                bytes, source: place, maximumDepth: 9, maximumValueCount: 1 << 16, code: .invalidRequest)
        } catch {
            throw .invalid(error.message, code: "invalid_json")
        }
        guard case .object(let object) = value else {
            throw .invalid("\(place) is \(value.kind); it must be a JSON object.", code: "invalid_json")
        }
        return object
    }

    private static func string(
        _ name: String, of object: JSONObject, _ place: String
    ) throws(ServiceError) -> String {
        switch object.valueIfPresent(name) {
        case .string(let value): return value
        case nil: throw .invalid("\(place): \"\(name)\" is missing.", param: name, code: "invalid_\(name)")
        case .some(let other):
            throw .invalid(
                "\(place): \"\(name)\" is \(other.kind); it must be a string.", param: name, code: "invalid_\(name)")
        }
    }

    /// `body` with a seed, where it names none.
    private static func seeded(_ body: JSONObject, _ seed: UInt64) -> JSONObject {
        guard body.valueIfPresent("seed") == nil else { return body }
        var members = body.members.filter { $0.key != "seed" }.map { ($0.key, $0.value) }
        members.append(("seed", .number(seed)))
        return JSONObject(members)
    }
}

/// What makes one run of a batch another than the next: the model and everything else that answers depend on.
struct BatchIdentity: Sendable {
    private let digest: UInt64
    private let seed: UInt64

    /// - Parameter parts: any strings, of which the same ones make the same run.
    init(seed: UInt64, _ parts: [String]) {
        var hash = XXH64(seed: seed)
        for part in parts {
            hash.update(ByteView(copying: withLength(Array(part.utf8))))
        }
        digest = hash.digest()
        self.seed = seed
    }

    func digits(of line: LineReader.Line) -> String {
        var hash = XXH64(seed: digest)
        hash.update(ByteView(copying: bigEndian(UInt64(line.number)) + bigEndian(UInt64(line.byteCount))))
        if let bytes = line.bytes { hash.update(ByteView(copying: bytes)) }
        return hexadecimal(hash.digest())
    }

    /// The seed of a call that names none. Below 2⁵³, so that every reader of JSON keeps it.
    func seed(of customID: String) -> UInt64 {
        var hash = XXH64(seed: seed)
        hash.update(ByteView(copying: customID.utf8))
        return hash.digest() >> 11
    }
}

/// The ids so far: 16 bytes of each, whatever its length. That two of a billion coincide has a chance of 10⁻²¹.
struct CustomIDs {
    private struct Digest: Hashable {
        let a: UInt64
        let b: UInt64
    }

    private var digests: Set<Digest> = []

    /// - Returns: false where the id was there.
    mutating func insert(_ id: String) -> Bool {
        let bytes = ByteView(copying: id.utf8)
        var (first, second) = (XXH64(seed: 0), XXH64(seed: 1))
        first.update(bytes)
        second.update(bytes)
        return digests.insert(Digest(a: first.digest(), b: second.digest())).inserted
    }
}

private func bigEndian(_ value: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - 8 * UInt64($0))) }
}

private func withLength(_ bytes: [UInt8]) -> [UInt8] { bigEndian(UInt64(bytes.count)) + bytes }
