import Lathe
import LatheCompiler
import LatheFormat

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

enum Bytes {
    /// As people write sizes: `117.9 MB`, powers of ten.
    static func text(_ count: Int) -> String {
        let units = ["B", "kB", "MB", "GB", "TB"]
        var value = Double(count)
        var unit = 0
        while value >= 999.95 && unit < units.count - 1 {
            value /= 1000
            unit += 1
        }
        return unit == 0 ? "\(count) B" : "\(value.rounded(to: 1)) \(units[unit])"
    }
}

enum Percent {
    /// `12.5 %` of a fraction.
    static func text(_ fraction: Double) -> String { "\((fraction * 100).rounded(to: 1)) %" }
}

extension Double {
    /// Decimal digits behind the point, for people.
    func rounded(to digits: Int) -> String {
        guard isFinite, abs(self) < 1e15 else { return "\(self)" }
        var factor = 1.0
        for _ in 0..<digits { factor *= 10 }
        let scaled = Int((abs(self) * factor).rounded())
        let sign = self < 0 && scaled != 0 ? "-" : ""
        let whole = scaled / Int(factor)
        guard digits > 0 else { return "\(sign)\(whole)" }
        let fraction = String(scaled % Int(factor))
        return "\(sign)\(whole)." + String(repeating: "0", count: digits - fraction.count) + fraction
    }
}

extension Double {
    /// Three digits and a power of ten, for people: `1.23e-4`.
    var scientific: String {
        guard isFinite, self != 0 else { return "\(self)" }
        var mantissa = abs(self)
        var power = 0
        while mantissa >= 9.995 {
            mantissa /= 10
            power += 1
        }
        while mantissa < 0.9995 {
            mantissa *= 10
            power -= 1
        }
        let text = "\(self < 0 ? "-" : "")\(mantissa.rounded(to: 2))"
        return power == 0 ? text : "\(text)e\(power)"
    }
}
