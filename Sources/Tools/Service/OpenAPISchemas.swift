import LatheFormat

/// The bodies of requests and replies, for `OpenAPI`.
enum OpenAPISchemas {
    static let all: [(String, JSON)] = [
        ("GenerateRequest", generateRequest), ("GenerateReply", generateReply),
        ("CompletionRequest", completionRequest), ("CompletionReply", completionReply),
        ("TokenizeRequest", closed(["prompt": ["type": "string"]], required: ["prompt"])),
        (
            "TokenizeReply",
            object(["tokens": tokens, "count": count], required: ["tokens"])
        ),
        ("DetokenizeRequest", closed(["tokens": tokens], required: ["tokens"])),
        ("DetokenizeReply", object(["prompt": ["type": "string"]], required: ["prompt"])),
        ("ModelList", modelList), ("MemoryReport", anyObject), ("AnyObject", anyObject),
        ("Health", object(["status": ["type": "string"]], required: ["status"])),
        ("Usage", usage), ("Error", error),
    ]

    // MARK: - Requests

    /// What both ways to generate share.
    private static let sampling: [(String, JSON)] = [
        (
            "temperature",
            number(0, 100, standard: 1, "0 takes the likeliest token each time; else what sharpens or flattens chances")
        ),
        ("top_k", integer(0, 1 << 31 - 1, standard: 0, "only so many likeliest tokens; 0 takes all")),
        ("top_p", number(0, 1, standard: 1, "the likeliest tokens that together have this chance")),
        ("min_p", number(0, 1, standard: 0, "no token less likely than this part of the likeliest one's chance")),
        ("repetition_penalty", number(0.01, 100, standard: 1, "divides the logits of tokens that occurred")),
        (
            "seed",
            nullable([
                "type": "integer", "minimum": 0, "maximum": .number(UInt64.max),
                "description": "the same seed gives the same text; without one, one is drawn and told",
            ])
        ),
        (
            "stop",
            [
                "oneOf": [
                    ["type": "null"], ["type": "string", "minLength": 1, "maxLength": 1024],
                    ["type": "array", "items": ["type": "string", "minLength": 1, "maxLength": 1024], "maxItems": 16],
                ],
                "description": "the text ends before any of these",
            ]
        ),
        ("stream", nullable(["type": "boolean", "default": false, "description": "reply by events as tokens come"])),
    ]

    private static let generateRequest: JSON = closed(
        .object(
            JSONObject(
                [
                    ("prompt", ["type": "string"] as JSON),
                    (
                        "max_length",
                        integer(1, 1 << 31 - 1, standard: nil, "tokens of the prompt and new ones together")
                    ),
                    (
                        "max_new_tokens",
                        integer(0, 1 << 31 - 1, standard: 64, "new tokens; not together with max_length")
                    ),
                    (
                        "return_full_text",
                        nullable(["type": "boolean", "default": true, "description": "begin with the prompt"])
                    ),
                ] + sampling)), required: ["prompt"])

    private static let completionRequest: JSON = closed(
        .object(
            JSONObject(
                [
                    (
                        "prompt",
                        [
                            "oneOf": [
                                ["type": "string"],
                                ["type": "array", "items": ["type": "string"], "minItems": 1, "maxItems": 2048],
                                ["type": "array", "items": token, "minItems": 1],
                                ["type": "array", "items": tokens, "minItems": 1, "maxItems": 2048],
                            ]
                        ] as JSON
                    ),
                    (
                        "model",
                        nullable(["type": "string", "description": "the name that /v1/models gives, or nothing"])
                    ),
                    ("max_tokens", integer(0, 1 << 31 - 1, standard: 16, "new tokens")),
                    ("n", integer(1, 128, standard: 1, "continuations of each prompt")),
                    ("best_of", integer(1, 128, standard: 1, "as n; anything else is refused")),
                    (
                        "echo", nullable(["type": "boolean", "default": false, "description": "begin with the prompt"])
                    ),
                    (
                        "logprobs",
                        integer(0, 100, standard: nil, "as many likeliest tokens with their log-probabilities")
                    ),
                    ("presence_penalty", number(-2, 2, standard: 0, "0 alone is served")),
                    ("frequency_penalty", number(-2, 2, standard: 0, "0 alone is served")),
                    (
                        "stream_options",
                        nullable(["type": "object", "properties": ["include_usage": ["type": "boolean"]]])
                    ),
                    ("user", nullable(["type": "string", "description": "is not read"])),
                    ("suffix", nullable(["type": "string", "description": "null alone is served"])),
                    ("logit_bias", nullable(["type": "object", "description": "empty alone is served"])),
                ] + sampling)), required: ["prompt"])

    // MARK: - Replies

    private static let usage = object(
        ["prompt_tokens": count, "completion_tokens": count, "total_tokens": count],
        required: ["prompt_tokens", "completion_tokens", "total_tokens"])

    private static let finishReason: JSON = ["type": ["string", "null"], "enum": ["stop", "length", nil]]

    private static let generateReply = object(
        [
            "generated_text": ["type": "string"], "finish_reason": finishReason,
            "usage": ["$ref": "#/components/schemas/Usage"], "seed": ["type": "integer", "minimum": 0],
        ], required: ["generated_text", "finish_reason", "usage", "seed"])

    private static let completionReply = object(
        [
            "id": ["type": "string"], "object": ["const": "text_completion"], "created": count,
            "model": ["type": "string"],
            "choices": [
                "type": "array",
                "items": object(
                    [
                        "index": count, "text": ["type": "string"], "finish_reason": finishReason, "logprobs": logprobs,
                    ], required: ["index", "text", "finish_reason", "logprobs"]),
            ],
            "usage": ["$ref": "#/components/schemas/Usage"],
        ], required: ["id", "object", "created", "model", "choices", "usage"])

    private static let logprobs: JSON = nullable(
        object(
            [
                "tokens": ["type": "array", "items": ["type": "string"]],
                "token_logprobs": ["type": "array", "items": ["type": ["number", "null"], "maximum": 0]],
                "top_logprobs": [
                    "type": ["array", "null"],
                    "items": ["type": ["object", "null"], "additionalProperties": ["type": "number", "maximum": 0]],
                ],
                "text_offset": ["type": "array", "items": count],
            ], required: ["tokens", "token_logprobs", "top_logprobs", "text_offset"]))

    private static let modelList = object(
        [
            "object": ["const": "list"],
            "data": [
                "type": "array",
                "items": object(
                    ["id": ["type": "string"], "object": ["const": "model"]], required: ["id", "object"]),
            ],
        ], required: ["object", "data"])

    private static let error = object(
        [
            "error": object(
                [
                    "message": ["type": "string"], "type": ["type": "string"], "param": ["type": ["string", "null"]],
                    "code": ["type": ["string", "null"]],
                ], required: ["message", "type", "param", "code"])
        ], required: ["error"])

    // MARK: - Parts

    private static let anyObject: JSON = ["type": "object"]
    private static let count: JSON = ["type": "integer", "minimum": 0]
    private static let token: JSON = ["type": "integer", "minimum": 0, "maximum": .number(Int(Int32.max))]
    private static let tokens: JSON = ["type": "array", "items": token]

    private static func object(_ properties: JSON, required: [String]) -> JSON {
        ["type": "object", "properties": properties, "required": .array(required.map { .string($0) })]
    }

    /// One in which an unknown field is refused.
    private static func closed(_ properties: JSON, required: [String]) -> JSON {
        [
            "type": "object", "properties": properties, "required": .array(required.map { .string($0) }),
            "additionalProperties": false,
        ]
    }

    private static func nullable(_ schema: JSON) -> JSON { ["oneOf": [["type": "null"], schema]] }

    private static func integer(_ minimum: Int, _ maximum: Int, standard: Int?, _ text: String) -> JSON {
        var schema = JSONObject([
            ("type", "integer"), ("minimum", .number(minimum)), ("maximum", .number(maximum)),
            ("description", .string(text)),
        ])
        if let standard { _ = schema.append("default", .number(standard)) }
        return nullable(.object(schema))
    }

    private static func number(_ minimum: Double, _ maximum: Double, standard: Double, _ text: String) -> JSON {
        nullable([
            "type": "number", "minimum": .number(minimum), "maximum": .number(maximum), "default": .number(standard),
            "description": .string(text),
        ])
    }
}
