import LatheFormat
import LatheService
import Logging
import Synchronization

/// Writes one line and counts for every request that ended.
final class RequestObserver: Sendable {
    private let logger: Logger
    private let metrics: PrometheusRegistry
    private let prefix: String
    private let count = Atomic<UInt64>(0)

    init(logger: Logger, metrics: PrometheusRegistry) {
        self.logger = logger
        self.metrics = metrics
        prefix = String(UInt64.random(in: 0...UInt64.max), radix: 36)
    }

    /// What the client sent, where it is fit for a log; else a new one.
    func identifier(sent: String?) -> String {
        if let sent, (1...64).contains(sent.utf8.count), sent.utf8.allSatisfy(Self.isFit) { return sent }
        return "\(prefix)-\(count.add(1, ordering: .relaxed).newValue)"
    }

    private static func isFit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "-_.:".utf8.contains(byte)
    }

    func ended(_ exchange: Exchange, _ ending: Exchange.Ending) {
        let now = ContinuousClock.now
        let status = exchange.status == 0 ? "none" : String(exchange.status)
        let duration = exchange.received.duration(to: now).seconds
        metrics.counter(
            "lathe_http_requests_total", [("route", exchange.route), ("status", status), ("ending", ending.rawValue)]
        ).increment(by: Int64(1))
        metrics.histogram(
            "lathe_http_request_duration_seconds", [("route", exchange.route), ("status", status)]
        ).record(duration)
        // What is asked every few seconds by machines would bury the rest, and so would a storm's refusals, which the metrics count.
        let isWatching = Route(rawValue: exchange.route)?.isForWatching == true && exchange.status < 400
        let isRefused = exchange.status == 429 || exchange.status == 503
        let level: Logger.Level = isWatching || isRefused ? .debug : .info
        guard level >= logger.logLevel else { return }
        var metadata: Logger.Metadata = [
            "id": "\(exchange.id)", "method": "\(exchange.method)", "route": "\(exchange.route)",
            "status": .stringConvertible(exchange.status), "ending": "\(ending.rawValue)",
            "seconds": .stringConvertible(Self.rounded(duration)),
            "head_seconds": .stringConvertible(
                Self.rounded(exchange.firstByte.map { exchange.received.duration(to: $0).seconds } ?? 0)),
            "request_bytes": .stringConvertible(exchange.requestBytes),
            "reply_bytes": .stringConvertible(exchange.replyBytes),
            "events": .stringConvertible(exchange.events),
        ]
        if let tokens = exchange.tokens {
            metadata["prompt_tokens"] = .stringConvertible(tokens.promptTokens)
            metadata["new_tokens"] = .stringConvertible(tokens.newTokens)
        }
        logger.log(level: level, "request", metadata: metadata)
    }

    /// Microseconds.
    private static func rounded(_ seconds: Double) -> Double { (seconds * 1e6).rounded() / 1e6 }
}
