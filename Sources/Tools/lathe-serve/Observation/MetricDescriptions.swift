/// What the server's own metrics mean; those of the service are described where they are counted.
enum MetricDescriptions {
    static let table: [String: String] = [
        "lathe_http_requests_total": "Requests that ended, by route, status and how they ended.",
        "lathe_http_request_duration_seconds": "From the head of a request read to its reply written.",
        "lathe_http_connections": "Connections that are open.",
        "lathe_http_connections_maximum": "Connections that are served in full at a time.",
    ]
}
