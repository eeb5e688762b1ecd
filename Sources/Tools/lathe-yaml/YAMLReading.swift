import LatheFormat
import Yams

/// Reads YAML as the JSON that it could have been.
enum YAMLReading {
    /// Scalars are what YAML 1.2's JSON schema makes of them: null, true, false and numbers where they are written so,
    /// else text. (YAML 1.1 would read the pattern 2:4 as a number to base sixty, and `off` as false.)
    ///
    /// - Throws: `invalidRequest` naming file and line.
    static func parse(_ text: String, source: String) throws(LatheError) -> JSON {
        let node: Node?
        do {
            node = try compose(yaml: text)
        } catch {
            throw LatheError(.invalidRequest, "\(quoted(source)) is no YAML: \(firstLines(error)).")
        }
        return try node.map { (node) throws(LatheError) in try json(node, source) } ?? .null
    }

    /// Without the lines that show the place, which the first one names.
    private static func firstLines(_ error: any Error) -> String {
        "\(error)".split(separator: "\n").prefix { !$0.hasSuffix(":") || $0.contains("error") }.prefix(2)
            .joined(separator: " ")
    }

    private static func json(_ node: Node, _ source: String) throws(LatheError) -> JSON {
        switch node {
        case .scalar(let scalar):
            guard scalar.style == .any || scalar.style == .plain else { return .string(scalar.string) }
            return value(scalar.string)
        case .sequence(let sequence):
            var items: [JSON] = []
            for item in sequence { items.append(try json(item, source)) }
            return .array(items)
        case .mapping(let mapping):
            var object = JSONObject()
            for (key, item) in mapping {
                guard case .scalar(let name) = key else {
                    throw LatheError(.invalidRequest, "\(place(key, source)): a key must be a word.")
                }
                guard object.append(name.string, try json(item, source)) else {
                    throw LatheError(.invalidRequest, "\(place(key, source)): \(quoted(name.string)) occurs twice.")
                }
            }
            return .object(object)
        case .alias:
            throw LatheError(.invalidRequest, "\(place(node, source)): aliases are not read here; write it out.")
        }
    }

    private static func place(_ node: Node, _ source: String) -> String {
        quoted(source) + (node.mark.map { ", line \($0.line)" } ?? "")
    }

    private static func value(_ text: String) -> JSON {
        // What the strict reader takes as a JSON number, true, false or null is that.
        switch try? JSON.parse(Array(text.utf8), source: "scalar") {
        case .some(.number(let digits)): .number(digits)
        case .some(.bool(let value)): .bool(value)
        case .some(.null): .null
        default: text == "~" || text.isEmpty ? .null : .string(text)
        }
    }
}
