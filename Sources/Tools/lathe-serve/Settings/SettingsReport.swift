/// What there is to read about settings, all of it made from the one table.
extension Settings {
    /// Each value with where it came from. No setting is a secret: keys are in a file of their own, of which only the path
    /// is said.
    var report: String {
        let rows = Setting.table.map { setting -> (String, String) in
            guard let value = values[setting.key] else { return ("\(setting.key)", "# not set") }
            return ("\(setting.key): \(Self.scalar(value.text))", "# \(value.origin.text)")
        }
        let width = rows.map(\.0.count).max() ?? 0
        return rows.map { left, right in
            let isSet = right != "# not set"
            let padding = String(repeating: " ", count: width - left.count + 2)
            return isSet ? left + padding + right : "# " + left + padding.dropLast(2) + right
        }.joined(separator: "\n") + "\n"
    }

    /// So that a file of settings reads the same.
    private static func scalar(_ text: String) -> String {
        let isPlain = text.utf8.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "/._-+".utf8.contains(byte)
        }
        if isPlain, !text.isEmpty, text.first != "-", text != "null" { return text }
        return "'" + text.replacing("'", with: "''") + "'"
    }

    static var help: String {
        var text = """
            Serves a converted model over HTTP.

            USAGE: lathe-serve --model PATH [--config FILE] [flags] [section.key=value …]

            A flag or an override comes before a LATHE_… variable, that before the file, that before the standard.


            """
        let heads = Setting.table.map { "--\($0.flag) \($0.kind.placeholder)" }
        let width = (heads.map(\.count).max() ?? 0) + 2
        for (setting, head) in zip(Setting.table, heads) {
            let padding = String(repeating: " ", count: width - head.count)
            let standard = setting.standard.map { " (standard: \($0))" } ?? ""
            text += "  \(head)\(padding)\(setting.summary)\(standard)\n"
        }
        return text + """

              --config FILE    read settings from a YAML file (LATHE_CONFIG)
              --print-config   print every setting with where it came from, and end
              --version        print the version, and end
              --help           print this, and end

            """
    }

    /// For the documentation.
    static var markdownTable: String {
        var text = "| Key | Flag | Variable | Standard | Allowed | Meaning |\n|---|---|---|---|---|---|\n"
        for setting in Setting.table {
            let standard = setting.standard.map { "`\($0)`" } ?? ""
            text += "| `\(setting.key)` | `--\(setting.flag)` | `\(setting.variable)` | \(standard) "
            text += "| \(setting.kind.bounds) | \(setting.summary) |\n"
        }
        return text
    }
}
