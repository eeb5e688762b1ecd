package import LatheFormat

/// Why a call was refused or failed, as the caller is told: an HTTP status, the words for a program and a sentence for a person.
package struct ServiceError: Error, Hashable, Sendable {
    package var status: Int
    /// The class of error, in the words of OpenAI's API.
    package var type: String
    package var message: String
    /// The field of the body that is wrong.
    package var param: String?
    package var code: String?
    /// When trying again makes sense.
    package var retryAfterSeconds: Int?

    package init(
        status: Int, type: String, message: String, param: String? = nil, code: String? = nil,
        retryAfterSeconds: Int? = nil
    ) {
        self.status = status
        self.type = type
        self.message = message
        self.param = param
        self.code = code
        self.retryAfterSeconds = retryAfterSeconds
    }

    /// The request is wrong; sent again it will be wrong again.
    package static func invalid(_ message: String, param: String? = nil, code: String? = nil) -> ServiceError {
        ServiceError(status: 400, type: "invalid_request_error", message: message, param: param, code: code)
    }

    package static func notFound(_ message: String, param: String? = nil, code: String) -> ServiceError {
        ServiceError(status: 404, type: "invalid_request_error", message: message, param: param, code: code)
    }

    /// More waits already than the service will keep waiting.
    static func busy(_ message: String, retryAfterSeconds: Int) -> ServiceError {
        ServiceError(
            status: 429, type: "rate_limit_error", message: message, code: "queue_full",
            retryAfterSeconds: retryAfterSeconds)
    }

    /// The service starts or ends.
    static func unavailable(_ message: String) -> ServiceError {
        ServiceError(
            status: 503, type: "service_unavailable", message: message, code: "not_ready", retryAfterSeconds: 1)
    }

    static func deadlinePassed(_ timeout: Duration) -> ServiceError {
        ServiceError(
            status: 504, type: "timeout_error",
            message: "The request took longer than \(timeout.seconds) seconds and was ended.", code: "deadline_passed")
    }

    /// What the engine or the format said.
    init(_ error: LatheError) {
        switch error.code {
        case .invalidRequest, .corrupt, .missing, .unsupported: self = .invalid(error.message)
        case .budget:
            self.init(
                status: 503, type: "service_unavailable", message: error.message, code: "no_memory",
                retryAfterSeconds: 1)
        case .notFinite:
            self.init(status: 500, type: "server_error", message: error.message, code: "not_finite")
        default: self.init(status: 500, type: "server_error", message: error.message)
        }
    }

    /// In the shape of OpenAI's API.
    package var json: JSON {
        [
            "error": [
                "message": .string(message), "type": .string(type), "param": param.map(JSON.string) ?? .null,
                "code": code.map(JSON.string) ?? .null,
            ]
        ]
    }
}
