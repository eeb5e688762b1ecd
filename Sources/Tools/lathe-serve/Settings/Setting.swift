import LatheFormat
import LatheService

/// One setting of the server: everything that flags, variables, the file, the help and the documentation say of it.
struct Setting: Sendable {
    enum Kind: Sendable {
        case text
        /// One of these words.
        case choice([String])
        case count(ClosedRange<Int>)
        /// A count, or a word that leaves it to the server.
        case countOrWord(ClosedRange<Int>, String)
        /// A size: `700MB`, `668MiB`, `700000000`.
        case bytes(ClosedRange<Int>)
        /// Seconds, whole or broken.
        case seconds(ClosedRange<Double>)
    }

    /// In the file and in overrides: `server.port`.
    let key: String
    /// Without its dashes: `port`. Its variable is `LATHE_PORT`.
    let flag: String
    let kind: Kind
    /// As one would write it; nil where there is none.
    let standard: String?
    let summary: String

    var variable: String { "LATHE_" + flag.uppercased().replacing("-", with: "_") }
}

extension Setting {
    static let table: [Setting] = [
        Setting(
            key: "model.path", flag: "model", kind: .text, standard: nil,
            summary: "the converted model (`.lathe`) to serve; needed"),
        Setting(
            key: "model.name", flag: "model-name", kind: .text, standard: nil,
            summary: "how replies and /v1/models name the model; without it, the file's name without its ending"),
        Setting(
            key: "server.host", flag: "host", kind: .text, standard: "127.0.0.1",
            summary: "the address to listen on; beyond loopback without server.api-key-file it warns"),
        Setting(
            key: "server.port", flag: "port", kind: .count(0...65535), standard: "8080",
            summary: "the port to listen on; 0 takes a free one, which the log names"),
        Setting(
            key: "server.api-key-file", flag: "api-key-file", kind: .text, standard: nil,
            summary: "a file of keys, one a line; requests must then carry one as `Authorization: Bearer KEY`"),
        Setting(
            key: "engine.memory-budget", flag: "memory-budget", kind: .bytes(1_000_000...1 << 50), standard: nil,
            summary: "what the process may occupy in memory; without it, what the machine or its control group allows"),
        Setting(
            key: "engine.sessions", flag: "sessions", kind: .countOrWord(1...4096, "auto"), standard: "auto",
            summary: "how many requests run at a time; auto takes what the budget allows"),
        Setting(
            key: "engine.context", flag: "context", kind: .count(1...1 << 24), standard: nil,
            summary: "the longest context in tokens; without it, the model's own"),
        Setting(
            key: "engine.queue", flag: "queue", kind: .count(1...65536), standard: "64",
            summary: "how many requests wait at most; further ones are refused with 429"),
        Setting(
            key: "engine.threads", flag: "threads", kind: .countOrWord(1...1024, "auto"), standard: "auto",
            summary: "threads that compute; auto takes what the processor and its quota allow"),
        Setting(
            key: "engine.kv", flag: "kv", kind: .choice(["auto", "f32", "f16", "int8"]), standard: "auto",
            summary: "the format of the KV cache"),
        Setting(
            key: "engine.prefill-chunk", flag: "prefill-chunk", kind: .countOrWord(1...65536, "auto"),
            standard: "auto", summary: "prompt tokens computed in one step, so that a long prompt does not stall others"
        ),
        Setting(
            key: "engine.prompt-lookup", flag: "prompt-lookup", kind: .count(0...64), standard: "0",
            summary: "tokens guessed ahead by what stood before: faster where texts repeat, the same texts always"),
        Setting(
            key: "engine.request-timeout", flag: "request-timeout", kind: .seconds(0.001...86400), standard: "120",
            summary: "seconds that a request may take, waiting included"),
        Setting(
            key: "server.shutdown-grace", flag: "shutdown-grace", kind: .seconds(0...3600), standard: "20",
            summary: "seconds that running requests have to end after SIGTERM"),
        Setting(
            key: "server.max-connections", flag: "max-connections", kind: .count(1...65536),
            standard: "\(ServerMemory.standardConnections)",
            summary: "open connections; further ones are answered 503, health checks excepted"),
        Setting(
            key: "server.max-body", flag: "max-body", kind: .bytes(1024...1 << 30), standard: "1MB",
            summary: "the longest body of a request; a longer one is answered 413"),
        Setting(
            key: "server.header-timeout", flag: "header-timeout", kind: .seconds(0.01...3600), standard: "10",
            summary: "seconds from the first byte of a request to the end of its head; 408 after that"),
        Setting(
            key: "server.body-timeout", flag: "body-timeout", kind: .seconds(0.01...3600), standard: "30",
            summary: "seconds from the end of the head to the end of the body; 408 after that"),
        Setting(
            key: "server.idle-timeout", flag: "idle-timeout", kind: .seconds(0.01...86400), standard: "60",
            summary: "seconds that a connection may stay open without a request"),
        Setting(
            key: "server.write-timeout", flag: "write-timeout", kind: .seconds(0.01...3600), standard: "20",
            summary: "seconds in which a client must take something of its reply, or the request is cancelled"),
        Setting(
            key: "server.event-loop-threads", flag: "event-loop-threads", kind: .count(1...64), standard: "1",
            summary: "threads that read and write sockets"),
        Setting(
            key: "log.level", flag: "log-level",
            kind: .choice(["trace", "debug", "info", "notice", "warning", "error", "critical"]), standard: "info",
            summary: "what is logged; `info` has one line a request"),
    ]

    static func named(key: String) -> Setting? { table.first { $0.key == key } }
    static func named(flag: String) -> Setting? { table.first { $0.flag == flag } }
    static func named(variable: String) -> Setting? { table.first { $0.variable == variable } }
}

// MARK: - Values

extension Setting.Kind {
    /// nil where `text` is such a value, else what it must be: "a whole number from 0 to 65535".
    func complaint(about text: String) -> String? {
        switch self {
        case .text: return text.isEmpty ? "a text that is not empty" : nil
        case .choice(let words): return words.contains(text) ? nil : "one of " + words.joined(separator: ", ")
        case .count(let range): return Self.isCount(text, range) ? nil : Self.description(of: range)
        case .countOrWord(let range, let word):
            return text == word || Self.isCount(text, range) ? nil : "\(word), or \(Self.description(of: range))"
        case .bytes(let range):
            guard let bytes = ByteSize.parse(text), range.contains(bytes) else {
                return "a size such as 700MB, from \(range.lowerBound) to \(range.upperBound) bytes"
            }
            return nil
        case .seconds(let range):
            guard let value = Double(text), range.contains(value) else {
                return "a number of seconds from \(range.lowerBound) to \(range.upperBound)"
            }
            return nil
        }
    }

    private static func isCount(_ text: String, _ range: ClosedRange<Int>) -> Bool {
        text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            && Int(text).map(range.contains) == true
    }

    private static func description(of range: ClosedRange<Int>) -> String {
        "a whole number from \(range.lowerBound) to \(range.upperBound)"
    }

    /// For the help: `PORT`-like words would only repeat the name.
    var placeholder: String {
        switch self {
        case .text: "TEXT"
        case .choice: "WORD"
        case .count: "N"
        case .countOrWord(_, let word): "N|\(word)"
        case .bytes: "SIZE"
        case .seconds: "SECONDS"
        }
    }

    /// For the documentation.
    var bounds: String {
        switch self {
        case .text: "text"
        case .choice(let words): words.joined(separator: ", ")
        case .count(let range): "\(range.lowerBound) to \(range.upperBound)"
        case .countOrWord(let range, let word): "\(word), \(range.lowerBound) to \(range.upperBound)"
        case .bytes(let range): "\(range.lowerBound) to \(range.upperBound) bytes"
        case .seconds(let range): "\(range.lowerBound) to \(range.upperBound) seconds"
        }
    }
}
