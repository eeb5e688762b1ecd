import LatheFormat

/// The bodies of requests and replies, for `OpenAPI`.
struct OpenAPISchemas {
    let vocabularySize: Int

    var all: [(String, JSON)] {
        [
            ("GenerateRequest", generateRequest), ("GenerateReply", Self.generateReply),
            ("CompletionRequest", completionRequest), ("CompletionReply", Self.completionReply),
            (
                "TokenizeRequest",
                Self.closed(
                    [
                        "prompt": ["type": "string"], "model": Self.model,
                        "add_special_tokens": Self.nullable(["type": "boolean"]),
                    ],
                    required: ["prompt"])
            ),
            (
                "TokenizeReply",
                Self.object(
                    ["tokens": tokens, "count": Self.count, "max_model_len": Self.count],
                    required: ["tokens", "count", "max_model_len"])
            ),
            ("DetokenizeRequest", Self.closed(["tokens": tokens, "model": Self.model], required: ["tokens"])),
            ("DetokenizeReply", Self.object(["prompt": ["type": "string"]], required: ["prompt"])),
            ("ModelList", Self.modelList), ("MemoryReport", Self.memoryReport),
            ("AnyObject", ["type": "object"]),
            ("Health", Self.object(["status": ["type": "string"]], required: ["status"])),
            ("Usage", Self.usage), ("Error", Self.error),
        ]
    }

    // MARK: - Requests

    /// What both ways to generate share.
    private static let sampling: [(String, JSON)] = [
        (
            "temperature",
            number(
                ["minimum": 0], standard: nil,
                "0 takes the likeliest token each time; else what sharpens or flattens chances")
        ),
        ("top_k", integer(-1, 1 << 31 - 1, standard: 0, "only so many likeliest tokens; 0 and -1 take all")),
        (
            "top_p",
            number(
                ["exclusiveMinimum": 0, "maximum": 1], standard: 1,
                "the likeliest tokens that together have this chance")
        ),
        (
            "min_p",
            number(
                ["minimum": 0, "maximum": 1], standard: 0,
                "no token less likely than this part of the likeliest one's chance")
        ),
        (
            "repetition_penalty",
            number(["exclusiveMinimum": 0], standard: 1, "divides the logits of tokens that occurred")
        ),
        (
            "seed",
            nullable([
                "type": "integer", "minimum": .number(Int64.min), "maximum": .number(UInt64.max),
                "description": "the same seed gives the same text; without one, one is drawn and told",
            ])
        ),
        (
            "stop",
            [
                "oneOf": [
                    ["type": "null"],
                    ["type": "string", "minLength": 1, "maxLength": .number(RequestLimits.stopLength)],
                    [
                        "type": "array",
                        "items": ["type": "string", "minLength": 1, "maxLength": .number(RequestLimits.stopLength)],
                        "maxItems": .number(RequestLimits.stopCount),
                    ],
                ],
                "description": "the text ends before any of these",
            ]
        ),
        ("ignore_eos", nullable(["type": "boolean", "default": false, "description": "go on past an end of text"])),
        ("stream", nullable(["type": "boolean", "default": false, "description": "reply by events as tokens come"])),
    ]

    private var generateRequest: JSON {
        Self.closed(
            .object(
                JSONObject(
                    [
                        ("prompt", ["oneOf": [["type": "string"], tokens]] as JSON),
                        (
                            "max_length",
                            Self.integer(2, 1 << 31 - 1, standard: nil, "tokens of the prompt and new ones together")
                        ),
                        (
                            "max_new_tokens",
                            Self.integer(
                                1, 1 << 31 - 1, standard: RequestLimits.defaultNewTokens,
                                "new tokens; not together with max_length")
                        ),
                        (
                            "return_full_text",
                            Self.nullable(["type": "boolean", "default": true, "description": "begin with the prompt"])
                        ),
                    ] + Self.sampling)), required: ["prompt"], notTogether: ["max_length", "max_new_tokens"])
    }

    private var completionRequest: JSON {
        Self.closed(
            .object(
                JSONObject(
                    [
                        (
                            "prompt",
                            [
                                "oneOf": [
                                    ["type": "string"],
                                    [
                                        "type": "array", "items": ["type": "string"], "minItems": 1,
                                        "maxItems": .number(RequestLimits.promptCount),
                                    ],
                                    ["type": "array", "items": token, "minItems": 1],
                                    [
                                        "type": "array", "items": tokens, "minItems": 1,
                                        "maxItems": .number(RequestLimits.promptCount),
                                    ],
                                ]
                            ] as JSON
                        ),
                        ("model", Self.model),
                        (
                            "max_tokens",
                            Self.integer(1, 1 << 31 - 1, standard: RequestLimits.defaultCompletionTokens, "new tokens")
                        ),
                        ("n", Self.integer(1, RequestLimits.choiceCount, standard: 1, "continuations of each prompt")),
                        (
                            "best_of",
                            Self.integer(1, RequestLimits.choiceCount, standard: 1, "as n; anything else is refused")
                        ),
                        (
                            "echo",
                            Self.nullable(["type": "boolean", "default": false, "description": "begin with the prompt"])
                        ),
                        (
                            "logprobs",
                            Self.integer(
                                0, RequestLimits.topLogProbabilities, standard: nil,
                                "as many likeliest tokens with their log-probabilities")
                        ),
                        ("presence_penalty", Self.nullable(["type": "number", "const": 0])),
                        ("frequency_penalty", Self.nullable(["type": "number", "const": 0])),
                        (
                            "stream_options",
                            Self.nullable(
                                Self.closed(["include_usage": Self.nullable(["type": "boolean"])], required: []))
                        ),
                        ("user", Self.nullable(["type": "string", "description": "is not read"])),
                        ("suffix", Self.nullable(["type": "string", "const": ""])),
                        ("logit_bias", Self.nullable(["type": "object", "maxProperties": 0])),
                    ] + Self.sampling)), required: ["prompt"])
    }

    // MARK: - Replies

    private static let usage = object(
        ["prompt_tokens": count, "completion_tokens": count, "total_tokens": count],
        required: ["prompt_tokens", "completion_tokens", "total_tokens"])

    private static let finishReason: JSON = ["type": ["string", "null"], "enum": ["stop", "length", nil]]
    private static let model = nullable([
        "type": "string", "description": "the name that /v1/models gives, or nothing",
    ])

    private static let generateReply = object(
        [
            "generated_text": ["type": "string"], "finish_reason": ["enum": ["length", "stop", "end_of_text"]],
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

    private static let bytes: JSON = ["type": ["integer", "null"], "minimum": 0]
    private static let memoryReport = object(
        [
            "budget_bytes": bytes, "planned_bytes": count, "resident_bytes": bytes, "peak_resident_bytes": bytes,
            "categories": [
                "type": "object",
                "additionalProperties": object(
                    ["planned_bytes": count, "current_bytes": count, "peak_bytes": count],
                    required: ["planned_bytes", "current_bytes", "peak_bytes"]),
            ],
            "sessions": object(
                ["total": count, "running": count, "waiting": count], required: ["total", "running", "waiting"]),
            "kv_cache": object(
                ["tokens": count, "promised_tokens": count], required: ["tokens", "promised_tokens"]),
        ],
        required: [
            "budget_bytes", "planned_bytes", "resident_bytes", "peak_resident_bytes", "categories", "sessions",
            "kv_cache",
        ])
    private static let count: JSON = ["type": "integer", "minimum": 0]
    private var token: JSON { ["type": "integer", "minimum": 0, "maximum": .number(vocabularySize - 1)] }
    private var tokens: JSON { ["type": "array", "items": token] }

    private static func object(_ properties: JSON, required: [String]) -> JSON {
        ["type": "object", "properties": properties, "required": .array(required.map { .string($0) })]
    }

    /// One in which an unknown field is refused.
    private static func closed(_ properties: JSON, required: [String], notTogether: [String] = []) -> JSON {
        var schema = JSONObject([
            ("type", "object"), ("properties", properties), ("required", .array(required.map { .string($0) })),
            ("additionalProperties", false),
        ])
        if !notTogether.isEmpty {
            let present = notTogether.map { ($0, ["type": "integer"] as JSON) }
            let both: JSON = [
                "required": .array(notTogether.map { .string($0) }), "properties": .object(JSONObject(present)),
            ]
            _ = schema.append("not", both)
        }
        return .object(schema)
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

    private static func number(_ bounds: JSON, standard: Double?, _ text: String) -> JSON {
        guard case .object(var schema) = bounds else { preconditionFailure("bounds are an object") }
        _ = schema.append("type", "number")
        _ = schema.append("description", .string(text))
        if let standard { _ = schema.append("default", .number(standard)) }
        return nullable(.object(schema))
    }
}
