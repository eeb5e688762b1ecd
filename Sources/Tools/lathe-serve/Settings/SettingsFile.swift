import LatheFormat

/// Reads the part of YAML that settings need: maps of maps of scalars, comments, quoted scalars.
///
/// Libraries for YAML bring all of Foundation, megabytes that a process with a small budget of memory should not carry
/// for a handful of lines. Whatever else YAML can say (lists, anchors, tags, blocks of text, flow maps, several
/// documents) no setting needs; it is refused by line, never read as something else.
struct SettingsFile {
    struct Entry: Equatable {
        /// `server.port`
        let key: String
        let value: String
        let line: Int
    }

    /// In the order of the file; each key once.
    let entries: [Entry]

    /// - Parameter source: the file's name, for messages.
    /// - Throws: `invalidRequest` naming file and line.
    init(_ text: String, source: String) throws(LatheError) {
        var reader = Reader(source: quoted(source))
        var number = 0
        // A carriage return and a line feed are one character.
        for line in text.split(omittingEmptySubsequences: false, whereSeparator: { $0 == "\n" || $0 == "\r\n" }) {
            number += 1
            try reader.read(line, number)
        }
        try reader.finish()
        entries = reader.entries
    }

    private struct Reader {
        let source: String
        var entries: [Entry] = []
        private var keys: Set<String> = []
        /// The open maps, outermost first: the path to their members and how far these are indented.
        private var levels: [(path: String, indent: Int)] = [("", 0)]
        /// A key whose members must come next.
        private var pending: (path: String, line: Int)?
        private var line = 0

        init(source: String) { self.source = source }

        mutating func read(_ text: Substring, _ number: Int) throws(LatheError) {
            line = number
            let content = text.drop { $0 == " " }
            if content.isEmpty || content.first == "#" { return }
            if keys.isEmpty, text == "---" { return }
            guard content.first != "\t" else { throw problem("is indented by a tab; YAML takes spaces") }
            try settle(indent: text.count - content.count)
            let (name, rest) = try key(content)
            let path = levels[levels.count - 1].path + name
            guard keys.insert(path).inserted else { throw problem("says \(quoted(path)) a second time") }
            if let value = try scalar(rest) {
                entries.append(Entry(key: path, value: value, line: number))
            } else {
                pending = (path, number)
            }
        }

        /// Finds the map that a line so far indented belongs to.
        private mutating func settle(indent: Int) throws(LatheError) {
            if let opened = pending {
                guard indent > levels[levels.count - 1].indent else { throw empty(opened) }
                levels.append((opened.path + ".", indent))
                pending = nil
                return
            }
            while levels.count > 1, indent < levels[levels.count - 1].indent { levels.removeLast() }
            let expected = levels[levels.count - 1].indent
            guard indent == expected else {
                throw problem("is indented by \(indent) spaces, where \(expected) are expected")
            }
        }

        private func key(_ content: Substring) throws(LatheError) -> (String, Substring) {
            guard let colon = content.firstIndex(of: ":") else {
                throw problem("is no `key: value`")
            }
            let name = content[..<colon]
            let rest = content[content.index(after: colon)...]
            let isWord = name.utf8.allSatisfy { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                    || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "-")
                    || byte == UInt8(ascii: "_") || byte == UInt8(ascii: ".")
            }
            guard isWord, !name.isEmpty, name.first != "-", rest.isEmpty || rest.first == " " else {
                throw problem("does not begin with a key of letters, digits, `-` and `_`, and a colon")
            }
            return (String(name), rest)
        }

        /// nil where nothing stands behind the key.
        private func scalar(_ text: Substring) throws(LatheError) -> String? {
            let text = text.drop { $0 == " " }
            guard let first = text.first, first != "#" else { return nil }
            if first == "\"" || first == "'" { return try quotedScalar(text.dropFirst(), first) }
            guard !"[]{}&*!|>%@`,?-".contains(first) || first == "-" && text.dropFirst().first != " " else {
                throw problem("holds something else than a plain value; write \(quoted(String(text))) between quotes")
            }
            var value = text
            if let comment = text.firstRange(of: " #") { value = text[..<comment.lowerBound] }
            while value.last == " " || value.last == "\t" { value.removeLast() }
            guard value.firstRange(of: ": ") == nil, value.last != ":" else {
                throw problem("holds two colons; put the value between quotes")
            }
            guard !["null", "~", "Null", "NULL"].contains(value) else {
                throw problem("sets no value; leave the line out")
            }
            return String(value)
        }

        private func quotedScalar(_ text: Substring, _ mark: Character) throws(LatheError) -> String {
            var value = ""
            var rest = text
            while let character = rest.popFirst() {
                if character == mark {
                    if mark == "'", rest.first == "'" {
                        value.append("'")
                        rest.removeFirst()
                        continue
                    }
                    let after = rest.drop { $0 == " " }
                    guard after.isEmpty || after.first == "#" && rest.first == " " else {
                        throw problem("goes on behind its closing quote")
                    }
                    return value
                }
                if mark == "\"", character == "\\" {
                    guard let next = rest.popFirst(), next == "\\" || next == "\"" else {
                        throw problem("holds an escape other than \\\\ and \\\"; use single quotes")
                    }
                    value.append(next)
                } else {
                    value.append(character)
                }
            }
            throw problem("has an opening quote and no closing one")
        }

        func finish() throws(LatheError) {
            if let pending { throw empty(pending) }
        }

        private func empty(_ opened: (path: String, line: Int)) -> LatheError {
            LatheError(
                .invalidRequest,
                "\(source): line \(opened.line) gives \(quoted(opened.path)) no value; leave it out.")
        }

        private func problem(_ what: String) -> LatheError {
            LatheError(.invalidRequest, "\(source): line \(line) \(what).")
        }
    }
}
