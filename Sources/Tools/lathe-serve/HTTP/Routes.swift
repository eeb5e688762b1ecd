/// The paths that the server answers, and by which methods: the one list behind routing, 404, 405 and labels.
enum Route: String, CaseIterable, Sendable {
    case generate = "/generate"
    case completions = "/v1/completions"
    case tokenize = "/tokenize"
    case detokenize = "/detokenize"
    case models = "/v1/models"
    case memory = "/v1/memory"
    case live = "/health/live"
    case ready = "/health/ready"
    case metrics = "/metrics"
    case openAPI = "/openapi.json"

    var method: String {
        switch self {
        case .generate, .completions, .tokenize, .detokenize: "POST"
        default: "GET"
        }
    }

    /// What a 405 says is allowed.
    var allowed: String { method == "GET" ? "GET, HEAD" : method }

    func allows(_ method: String) -> Bool { method == self.method || method == "HEAD" && self.method == "GET" }

    /// Health checks come from machines that hold no key.
    var needsKey: Bool { self != .live && self != .ready }

    /// Takes a place in the queue.
    var generates: Bool { self == .generate || self == .completions }

    /// Answered even where too many connections are open.
    var isForWatching: Bool { self == .live || self == .ready || self == .metrics }
}
