import LatheFormat

/// A line of a batch's output.
struct BatchAnswer: Sendable {
    /// With the newline at its end.
    let bytes: [UInt8]
    let tally: BatchTally

    /// To a line that is no call.
    init(_ request: BatchRequest, refusal: ServiceError) {
        self.init(
            request, status: refusal.status, body: refusal.json,
            error: ["code": refusal.code.map(JSON.string) ?? .null, "message": .string(refusal.message)])
    }

    /// What the service said.
    init(_ request: BatchRequest, reply: ServiceDocument) {
        // The service wrote it a moment ago.
        let body = try! JSON.parse(reply.body, source: "the reply", maximumValueCount: .max)
        self.init(request, status: reply.status, body: Self.timeless(body, request), error: .null)
    }

    private init(_ request: BatchRequest, status: Int, body: JSON, error: JSON) {
        let line: JSON = [
            "id": .string(request.id), "custom_id": request.customID.map(JSON.string) ?? .null,
            "response": [
                "status_code": .number(status), "request_id": .string("req_" + request.digits), "body": body,
            ],
            "error": error,
        ]
        bytes = line.serializedBytes() + [UInt8(ascii: "\n")]
        tally = BatchTally(status: status, body: body)
    }

    /// The reply of a completion without what differs from run to run: its id comes from the line, and it was never created.
    private static func timeless(_ body: JSON, _ request: BatchRequest) -> JSON {
        guard case .object(let object) = body, object["object"] == "text_completion" else { return body }
        return .object(
            JSONObject(
                object.members.map { member in
                    switch member.key {
                    case "id": ("id", .string("cmpl-" + request.digits))
                    case "created": ("created", 0)
                    default: (member.key, member.value)
                    }
                }))
    }
}

/// Counts of answers.
package struct BatchTally: Sendable, Hashable {
    /// With status 200.
    package internal(set) var completed = 0
    package internal(set) var failed = 0
    package internal(set) var promptTokens = 0
    package internal(set) var newTokens = 0

    package var total: Int { completed + failed }

    init() {}

    init(status: Int, body: JSON) {
        if status == 200 { completed = 1 } else { failed = 1 }
        guard case .object(let object) = body, case .object(let usage) = object["usage"] else { return }
        promptTokens = usage["prompt_tokens"].flatMap(Fields.integer) ?? 0
        newTokens = usage["completion_tokens"].flatMap(Fields.integer) ?? 0
    }

    /// Of a line that an earlier run wrote; nil where it is none.
    init?(line: [UInt8], id: inout String) {
        guard
            case .object(let object) = try? JSON.parse(line, source: "the line", maximumValueCount: .max),
            case .string(let found) = object["id"], case .object(let response) = object["response"],
            let status = response["status_code"].flatMap(Fields.integer), let body = response["body"]
        else { return nil }
        id = found
        self.init(status: status, body: body)
    }

    mutating func add(_ other: BatchTally) {
        completed += other.completed
        failed += other.failed
        promptTokens += other.promptTokens
        newTokens += other.newTokens
    }
}
