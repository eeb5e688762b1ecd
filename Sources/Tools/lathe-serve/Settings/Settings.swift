import LatheFormat

/// What the server was told, each value with where it came from.
///
/// A flag and an override (`server.port=9000`) come before a `LATHE_…` variable, that before the file, that before the
/// standard. Of flags and overrides the last one counts.
struct Settings: Sendable {
    enum Origin: Equatable, Sendable {
        case standard
        case file(String, line: Int)
        case variable(String)
        case flag(String)
        case override

        var text: String {
            switch self {
            case .standard: "standard"
            case .file(let path, let line): "\(path), line \(line)"
            case .variable(let name): "environment, \(name)"
            case .flag(let name): "flag --\(name)"
            case .override: "override"
            }
        }
    }

    struct Value: Equatable, Sendable {
        var text: String
        var origin: Origin
    }

    /// By key; what has no standard and was not given is absent.
    private(set) var values: [String: Value] = [:]

    /// What the command line asks for besides settings.
    enum Request: Equatable, Sendable { case serve, help, version, printConfiguration, settingsTable }
    private(set) var request = Request.serve

    /// Variables with the prefix that mean something to other parts of the program.
    static let otherVariables: Set<String> = [
        "LATHE_ISA", "LATHE_CONFIG", "LATHE_FENCE", "LATHE_PARENT", "LATHE_PHASES", "LATHE_REGENERATE_GOLDEN",
        "LATHE_TOKENIZER_CASES", "LATHE_ALLOCATION_STACKS",
    ]

    /// - Parameter readFile: gives the text of the file of settings.
    /// - Throws: `invalidRequest` that names the flag, variable or line.
    init(
        arguments: [String], environment: [String: String], readFile: (String) throws(LatheError) -> String
    ) throws(LatheError) {
        var line = CommandLineReading()
        try line.read(arguments)
        request = line.request
        for setting in Setting.table {
            if let standard = setting.standard { values[setting.key] = Value(text: standard, origin: .standard) }
        }
        if let path = line.configuration ?? environment["LATHE_CONFIG"] {
            for entry in try SettingsFile(try readFile(path), source: path).entries {
                guard let setting = Setting.named(key: entry.key) else {
                    throw LatheError(
                        .invalidRequest,
                        "\(quoted(path)): line \(entry.line) sets \(quoted(entry.key)), which is no setting"
                            + "\(Self.suggestion(entry.key, among: Setting.table.map(\.key))).")
                }
                try set(setting, entry.value, .file(path, line: entry.line))
            }
        }
        for name in environment.keys.sorted() where name.hasPrefix("LATHE_") {
            guard let setting = Setting.named(variable: name) else {
                if Self.otherVariables.contains(name) { continue }
                throw LatheError(
                    .invalidRequest,
                    "The environment sets \(quoted(name)), which nothing here reads"
                        + "\(Self.suggestion(name, among: Setting.table.map(\.variable))); unset it.")
            }
            try set(setting, environment[name] ?? "", .variable(name))
        }
        for (setting, value, origin) in line.values { try set(setting, value, origin) }
    }

    private mutating func set(_ setting: Setting, _ text: String, _ origin: Origin) throws(LatheError) {
        if let wanted = setting.kind.complaint(about: text) {
            throw LatheError(
                .invalidRequest,
                "\(setting.key) is \(quoted(text, limit: 80)) (\(origin.text)); it must be \(wanted).")
        }
        values[setting.key] = Value(text: text, origin: origin)
    }

    /// `; did you mean …` for a name that is one or two letters away from a known one.
    static func suggestion(_ name: String, among known: [String]) -> String {
        let near = known.map { ($0, distance($0, name)) }.min { $0.1 < $1.1 }
        guard let near, near.1 <= 2 else { return "" }
        return "; did you mean \(near.0)?"
    }

    /// Levenshtein's: how many letters must be added, left out or changed.
    private static func distance(_ a: String, _ b: String) -> Int {
        let (a, b) = (Array(a.utf8), Array(b.utf8.prefix(100)))
        var row = Array(0...b.count)
        for i in a.indices {
            var diagonal = row[0]
            row[0] = i + 1
            for j in b.indices {
                let change = diagonal + (a[i] == b[j] ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(change, row[j] + 1, diagonal + 1)
            }
        }
        return row[b.count]
    }
}

/// The words of the command line.
private struct CommandLineReading {
    var values: [(Setting, String, Settings.Origin)] = []
    var configuration: String?
    var request = Settings.Request.serve

    mutating func read(_ arguments: [String]) throws(LatheError) {
        var rest = arguments[...]
        while let word = rest.popFirst() {
            if word == "-h" || word == "--help" {
                request = .help
            } else if word == "--version" {
                request = .version
            } else if word == "--print-config" {
                request = .printConfiguration
            } else if word == "--print-settings-table" {
                request = .settingsTable
            } else if word.hasPrefix("--") {
                try readFlag(word.dropFirst(2), &rest)
            } else {
                try readOverride(word)
            }
        }
    }

    private mutating func readFlag(_ word: Substring, _ rest: inout ArraySlice<String>) throws(LatheError) {
        let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let name = String(parts[0])
        let setting = Setting.named(flag: name)
        guard setting != nil || name == "config" else {
            let known = Setting.table.map(\.flag) + ["config", "print-config", "help", "version"]
            throw LatheError(
                .invalidRequest,
                "There is no flag --\(printable(name))\(Settings.suggestion(name, among: known)); see --help.")
        }
        guard let value = parts.count == 2 ? String(parts[1]) : rest.popFirst() else {
            throw LatheError(.invalidRequest, "The flag --\(name) needs a value behind it.")
        }
        if let setting {
            values.append((setting, value, .flag(name)))
        } else {
            configuration = value
        }
    }

    private mutating func readOverride(_ word: String) throws(LatheError) {
        let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let key = String(parts[0])
        guard parts.count == 2 else {
            throw LatheError(
                .invalidRequest, "\(quoted(word)) is neither a flag nor an override such as server.port=9000.")
        }
        guard let setting = Setting.named(key: key) else {
            throw LatheError(
                .invalidRequest,
                "There is no setting \(quoted(key))\(Settings.suggestion(key, among: Setting.table.map(\.key))).")
        }
        values.append((setting, String(parts[1]), .override))
    }
}

/// Without the quotation marks of `quoted`.
func printable(_ text: String) -> Substring { quoted(text, limit: 200).dropFirst().dropLast() }

// MARK: - Typed values

/// Every value has passed its setting's check; a key that is not in the table, or of another kind, is a mistake here.
extension Settings {
    func text(_ key: String) -> String? {
        precondition(Setting.named(key: key) != nil, "\(key) is no setting")
        return values[key]?.text
    }

    func requiredText(_ key: String) throws(LatheError) -> String {
        if let value = text(key) { return value }
        let setting = Setting.named(key: key)!
        throw LatheError(
            .missing,
            "\(key) is not set; give --\(setting.flag), \(setting.variable), or a line in the file of settings.")
    }

    /// nil where nothing, or a word, was said.
    func count(_ key: String) -> Int? { text(key).flatMap { Int($0) } }
    func bytes(_ key: String) -> Int? { text(key).flatMap(ByteSize.parse) }

    /// Of a setting that has a standard.
    func duration(_ key: String) -> Duration { .seconds(text(key).flatMap { Double($0) }!) }
}
