import LatheFormat

/// Names parameters as a shell names files: `*` stands for any characters, dots included, `?` for one.
///
/// A pattern means a parameter if it matches a run of whole components of the name: `c_attn`, `h.0.attn` and
/// `h.0.*.weight` all mean `h.0.attn.c_attn.weight`, while `h.1` means nothing of `h.10`.
package struct TensorPattern: Sendable, Hashable, CustomStringConvertible {
    package let description: String

    package init(_ text: String) throws(LatheError) {
        guard !text.isEmpty else {
            throw LatheError(
                .invalidRequest, "A pattern for tensors is empty; write a name as `c_attn`, or `*` for all.")
        }
        description = text
    }

    package func matches(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        let dot = UInt8(ascii: ".")
        let starts = [0] + bytes.indices.filter { bytes[$0] == dot }.map { $0 + 1 }
        let ends = bytes.indices.filter { bytes[$0] == dot } + [bytes.count]
        let pattern = Array(description.utf8)
        return starts.contains { start in
            ends.contains { $0 >= start && Self.matches(pattern, bytes[start..<$0]) }
        }
    }

    /// Whether all of `text` matches; only the last `*` is ever reconsidered, so that the time is at most quadratic.
    private static func matches(_ pattern: [UInt8], _ text: ArraySlice<UInt8>) -> Bool {
        let (star, question) = (UInt8(ascii: "*"), UInt8(ascii: "?"))
        var (position, index) = (0, text.startIndex)
        var retry: (position: Int, index: Int)?
        while index < text.endIndex {
            if position < pattern.count, pattern[position] == star {
                retry = (position, index)
                position += 1
            } else if position < pattern.count, pattern[position] == question || pattern[position] == text[index] {
                position += 1
                index += 1
            } else if let last = retry {
                retry = (last.position, last.index + 1)
                position = last.position + 1
                index = last.index + 1
            } else {
                return false
            }
        }
        return pattern[position...].allSatisfy { $0 == star }
    }
}

extension ModelDefinition {
    /// The parameter that the head multiplies by; a tied embedding is one too.
    var headParameter: String? {
        for entryPoint in entryPoints {
            for operation in entryPoint.operations {
                if case .linear(let weight, _) = operation.kind, entryPoint.outputs.contains(operation.output) {
                    return weight
                }
            }
        }
        return nil
    }

    /// The parameters from which ids take rows.
    var embeddingTables: Set<String> {
        var tables: Set<String> = []
        for operation in entryPoints.flatMap(\.operations) {
            if case .embed(let table, let positions) = operation.kind {
                tables.insert(table)
                if let positions { tables.insert(positions) }
            }
        }
        return tables
    }

    /// Whether `pattern` means this parameter. The head also answers to `lm_head.weight` where it is stored as the
    /// embedding that it is tied to.
    func matches(_ pattern: TensorPattern, parameter: String) -> Bool {
        pattern.matches(parameter) || (parameter == headParameter && pattern.matches("lm_head.weight"))
    }

    /// The matrices that each of `patterns` means, by the parameters' names.
    ///
    /// - Parameter option: what the patterns were given to, for the message: `--exclude`.
    /// - Throws: where a pattern means no matrix; the message lists some.
    func matrices(matching patterns: [TensorPattern], option: String) throws(LatheError) -> [Set<String>] {
        let names = weights.filter { $0.role == .matrix }.map(\.name)
        var result: [Set<String>] = []
        for pattern in patterns {
            let found = names.filter { matches(pattern, parameter: $0) }
            guard !found.isEmpty else {
                throw LatheError(
                    .invalidRequest,
                    "\(option) \(quoted(pattern.description)) matches no matrix of this model; its matrices are "
                        + Self.listed(names) + ".")
            }
            result.append(Set(found))
        }
        return result
    }

    private static func listed(_ names: [String]) -> String {
        let shown = names.prefix(6).map { "`\($0)`" }.joined(separator: ", ")
        return names.count > 6 ? "\(shown) and \(names.count - 6) more" : shown
    }
}
