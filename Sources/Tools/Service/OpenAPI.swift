import LatheFormat

/// What the server says of itself at `/openapi.json`: OpenAPI 3.1, each path, each field with its bounds, each status.
package enum OpenAPI {
    /// - Parameter vocabularySize: token ids are below it.
    package static func document(vocabularySize: Int) -> [UInt8] { json(vocabularySize).serializedBytes() }

    private static func json(_ vocabularySize: Int) -> JSON {
        [
            "openapi": "3.1.0",
            "info": [
                "title": "Lathe", "version": .string(latheVersion),
                "description": "Text from a small language model. Errors have OpenAI's shape wherever they come from.",
            ],
            "paths": paths,
            "security": [[:], ["key": []]],
            "components": [
                "securitySchemes": [
                    "key": [
                        "type": "http", "scheme": "bearer",
                        "description":
                            "Needed on every path but the health checks, where the server has a file of keys.",
                    ]
                ],
                "schemas": .object(JSONObject(OpenAPISchemas(vocabularySize: vocabularySize).all)),
                "responses": responses,
            ],
        ]
    }

    // MARK: - Paths

    private static let paths: JSON = [
        "/generate": [
            "post": operation(
                "generate", "Continue a prompt.", body: "GenerateRequest", reply: "GenerateReply", streams: true,
                statuses: generating)
        ],
        "/v1/completions": [
            "post": operation(
                "createCompletion", "Continue one or several prompts, as OpenAI's interface does.",
                body: "CompletionRequest", reply: "CompletionReply", streams: true, statuses: generating)
        ],
        "/tokenize": [
            "post": operation(
                "tokenize", "The token ids of a text.", body: "TokenizeRequest", reply: "TokenizeReply",
                statuses: reading)
        ],
        "/detokenize": [
            "post": operation(
                "detokenize", "The text of token ids.", body: "DetokenizeRequest", reply: "DetokenizeReply",
                statuses: reading)
        ],
        "/v1/models": ["get": operation("listModels", "The model that is served.", reply: "ModelList")],
        "/v1/memory": [
            "get": operation("memory", "The plan of memory, and what is really occupied.", reply: "MemoryReport")
        ],
        "/openapi.json": ["get": operation("openAPI", "This document.", reply: "AnyObject")],
        "/health/live": [
            "get": health("live", "Whether the process answers.", ["200": described("It does.", schema: "Health")])
        ],
        "/health/ready": [
            "get": health(
                "ready", "Whether requests are taken: after the warm-up, until a signal to end.",
                [
                    "200": described("They are.", schema: "Health"),
                    "503": described("They are not.", schema: "Health"),
                    "431": reference("HeadTooLong"),
                ])
        ],
        "/metrics": [
            "get": [
                "operationId": "metrics", "summary": "Measures for Prometheus.",
                "responses": [
                    "200": [
                        "description": "Text exposition, version 0.0.4.",
                        "content": ["text/plain": ["schema": ["type": "string"]]],
                    ],
                    "400": reference("Malformed"), "401": reference("NoKey"), "408": reference("TooSlow"),
                    "431": reference("HeadTooLong"),
                ],
            ]
        ],
    ]

    private static let common = [
        ("400", "Malformed"), ("401", "NoKey"), ("408", "TooSlow"), ("431", "HeadTooLong"), ("500", "Failed"),
        ("503", "Busy"),
    ]
    private static let reading =
        common + [
            ("404", "NoModel"), ("413", "TooLong"), ("415", "NotJSON"), ("417", "Expectation"), ("429", "TooMany"),
        ]
    private static let generating = reading + [("504", "DeadlinePassed")]

    private static func operation(
        _ name: String, _ summary: String, body: String? = nil, reply: String, streams: Bool = false,
        statuses: [(String, String)] = common
    ) -> JSON {
        let document: JSON = ["schema": schema(reply)]
        var content = JSONObject([("application/json", document)])
        if streams {
            // Each event's data is an object of the reply's shape, or of a piece of it; 3.1 has no words for that.
            _ = content.append("text/event-stream", [:])
        }
        var replies = JSONObject([("200", ["description": "Done.", "content": JSON.object(content)] as JSON)])
        for (status, response) in statuses { _ = replies.append(status, reference(response)) }
        var operation = JSONObject([("operationId", .string(name)), ("summary", .string(summary))])
        if let body {
            let content: JSON = ["application/json": ["schema": schema(body)]]
            _ = operation.append("requestBody", ["required": true, "content": content])
        }
        _ = operation.append("responses", .object(replies))
        return .object(operation)
    }

    private static func health(_ name: String, _ summary: String, _ responses: JSON) -> JSON {
        ["operationId": .string(name), "summary": .string(summary), "security": [], "responses": responses]
    }

    private static func described(_ text: String, schema name: String) -> JSON {
        ["description": .string(text), "content": ["application/json": ["schema": schema(name)]]]
    }

    private static func schema(_ name: String) -> JSON { ["$ref": .string("#/components/schemas/\(name)")] }
    private static func reference(_ name: String) -> JSON { ["$ref": .string("#/components/responses/\(name)")] }

    // MARK: - Errors

    private static let responses: JSON = .object(
        JSONObject(
            [
                ("Malformed", "The request is not what this path takes; the message says which field, and why."),
                ("NoKey", "No key that the server knows came with the request."),
                ("NoModel", "Another model is asked for than is served."),
                ("TooSlow", "The head or the body did not come in time."),
                ("TooLong", "The body is longer than the server reads."),
                ("NotJSON", "The body is no JSON by its Content-Type, or is encoded."),
                ("Expectation", "Of Expect only 100-continue is known."),
                ("HeadTooLong", "The head of the request is too long."),
                ("Failed", "The server failed at this request; others are not affected."),
                ("DeadlinePassed", "The time that a request may take had passed."),
            ].map { name, text in (name, described(text, schema: "Error")) }
                + [
                    ("TooMany", "This client has too much in work."),
                    ("Busy", "Too much is waiting, or the server ends."),
                ].map { name, text in (name, retriable(text)) }))

    private static func retriable(_ text: String) -> JSON {
        [
            "description": .string(text),
            "headers": [
                "Retry-After": [
                    "description": "Seconds to wait before asking again.", "schema": ["type": "integer", "minimum": 0],
                ]
            ],
            "content": ["application/json": ["schema": schema("Error")]],
        ]
    }
}
