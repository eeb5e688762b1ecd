import Lathe
import LatheCompiler
import LatheFormat
import LatheWorkbench

/// A bar on stderr, drawn only for a terminal.
enum ProgressBar {
    static func show(_ progress: Compiler.Progress) {
        show(fraction: Double(progress.completedBytes) / Double(max(1, progress.totalBytes)), label: progress.tensor)
    }

    static func show(fraction: Double, label: String) {
        guard StandardError.isTerminal else { return }
        if fraction >= 1 { return StandardError.write("\r\u{1B}[K") }
        let width = 30
        let filled = Int(fraction * Double(width))
        let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
        StandardError.write("\r\u{1B}[K\(bar) \(Int(fraction * 100)) % \(label)")
    }
}

/// `text` with its control characters escaped: names come from files, and must neither break a line nor steer a terminal.
func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    return text.unicodeScalars.reduce(into: "") { result, scalar in
        result += isControl(scalar) ? scalar.escaped(asASCII: true) : String(scalar)
    }
}

private func isControl(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
}

extension Engine {
    /// What the weights take, and why more than in the file where they do.
    var weightSummary: String {
        let size = "weights \(Bytes.text(residentWeightBytes))"
        guard hasExpandedWeights else { return size }
        return
            "\(size), expanded from \(Bytes.text(storedWeightBytes)) since \(instructionSet) reads packed ones slower"
    }
}

extension Engine {
    /// Of how many memory nodes use is made, and what of the weights was placed.
    var nodeSummary: String {
        let summary = "NUMA: \(nodes)"
        return nodes.nodes.isEmpty ? summary : "\(summary), \(Bytes.text(placedWeightBytes)) of weights placed"
    }
}

/// Columns of text as wide as their widest cell.
struct TextTable {
    private var rows: [[String]]
    private let rightAligned: Set<Int>

    init(_ header: [String], rightAligned: Set<Int> = []) {
        rows = [header]
        self.rightAligned = rightAligned
    }

    mutating func add(_ row: [String]) { rows.append(row.map(printable)) }

    var text: String {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max()! }
        var lines = rows.map { row in
            let cells = row.indices.map { column in
                let padding = String(repeating: " ", count: widths[column] - row[column].count)
                return rightAligned.contains(column) ? padding + row[column] : row[column] + padding
            }
            let line = cells.joined(separator: "  ")
            return String(line.reversed().drop { $0 == " " }.reversed())
        }
        lines.insert(widths.map { String(repeating: "─", count: $0) }.joined(separator: "──"), at: 1)
        return lines.joined(separator: "\n") + "\n"
    }
}

enum Percent {
    /// `12.5 %` of a fraction.
    static func text(_ fraction: Double) -> String { "\((fraction * 100).rounded(to: 1)) %" }
}
