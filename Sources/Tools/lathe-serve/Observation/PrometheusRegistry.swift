import CoreMetrics
import Synchronization

/// Keeps what was measured, and writes it as Prometheus reads it (text exposition, version 0.0.4).
///
/// It is the backend of swift-metrics: what a counter, gauge or timer of that library is called (`label`) and its
/// dimensions are the family's name and labels here. To count costs an atomic addition; to look up a metric costs a lock
/// and a hash, so hot paths keep theirs.
final class PrometheusRegistry: Sendable {
    enum Kind: String { case counter, gauge, histogram }

    struct Labels: Hashable, Sendable {
        /// Sorted by name; as written: `route="/generate",status="200"`.
        let text: String

        init(_ pairs: [(String, String)]) {
            text = pairs.sorted { $0.0 < $1.0 }
                .map { "\(PrometheusRegistry.name($0.0))=\"\(PrometheusRegistry.escaped($0.1))\"" }
                .joined(separator: ",")
        }
    }

    private struct Family {
        let kind: Kind
        var series: [Labels: any Series] = [:]
    }

    private let families = Mutex<[String: Family]>([:])
    private let descriptions: [String: String]
    private let buckets: @Sendable (String) -> [Double]

    /// - Parameters:
    ///   - descriptions: by name, for HELP lines.
    ///   - buckets: the upper bounds of a histogram's buckets by its name, ascending, without infinity.
    init(
        descriptions: [String: String] = [:],
        buckets: @escaping @Sendable (String) -> [Double] = PrometheusRegistry.standardBuckets
    ) {
        self.descriptions = descriptions
        self.buckets = buckets
    }

    /// Seconds from a millisecond to some minutes; whatever else is counted, by powers of two. vLLM's histograms have
    /// bounds of about these.
    static func standardBuckets(_ name: String) -> [Double] {
        if name.hasSuffix("_seconds") {
            return [
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5, 5, 10, 20, 40,
                80, 160,
            ]
        }
        return (0...17).map { Double(1 << $0) }
    }

    func counter(_ label: String, _ dimensions: [(String, String)] = []) -> Counter {
        series(label, .counter, dimensions) { Counter() }
    }

    func gauge(_ label: String, _ dimensions: [(String, String)] = []) -> Gauge {
        series(label, .gauge, dimensions) { Gauge() }
    }

    func histogram(_ label: String, _ dimensions: [(String, String)] = []) -> Histogram {
        series(label, .histogram, dimensions) { [buckets] in Histogram(bounds: buckets(Self.name(label))) }
    }

    /// The series of that name and labels. Where the name already is of another kind, one that nobody reads: a mistake in
    /// what is measured must not end what serves.
    private func series<T: Series>(
        _ label: String, _ kind: Kind, _ dimensions: [(String, String)], _ make: () -> T
    ) -> T {
        let name = Self.name(label)
        let labels = Labels(dimensions)
        return families.withLock { families in
            var family = families[name] ?? Family(kind: kind)
            guard family.kind == kind else {
                assertionFailure("\(name) is a \(family.kind) and no \(kind)")
                return make()
            }
            if let known = family.series[labels] as? T { return known }
            let new = make()
            family.series[labels] = new
            families[name] = family
            return new
        }
    }

    // MARK: - Text

    func exposition() -> [UInt8] {
        var text = ""
        let families = families.withLock { $0 }
        for name in families.keys.sorted() {
            guard let family = families[name] else { continue }
            if let description = descriptions[name] {
                text += "# HELP \(name) \(Self.escapedHelp(description))\n"
            }
            text += "# TYPE \(name) \(family.kind.rawValue)\n"
            for (labels, series) in family.series.sorted(by: { $0.key.text < $1.key.text }) {
                series.write(name, labels.text, to: &text)
            }
        }
        return Array(text.utf8)
    }

    /// Letters that a name may not hold become `_`.
    static func name(_ text: String) -> String {
        func isFit(_ byte: UInt8, first: Bool) -> Bool {
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) || byte == UInt8(ascii: "_")
                || byte == UInt8(ascii: ":") || !first && (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        }
        if !text.isEmpty, text.utf8.enumerated().allSatisfy({ isFit($0.element, first: $0.offset == 0) }) {
            return text
        }
        let bytes = text.utf8.enumerated().map {
            isFit($0.element, first: $0.offset == 0) ? $0.element : UInt8(ascii: "_")
        }
        return bytes.isEmpty ? "_" : String(decoding: bytes, as: UTF8.self)
    }

    static func escaped(_ value: String) -> String {
        guard value.utf8.contains(where: { $0 == 0x22 || $0 == 0x5C || $0 == 0x0A }) else { return value }
        return escapedHelp(value).replacing("\"", with: "\\\"")
    }

    private static func escapedHelp(_ text: String) -> String {
        text.replacing("\\", with: "\\\\").replacing("\n", with: "\\n")
    }

    /// The shortest digits that read back as the same number; whole ones without a point.
    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if value == value.rounded(), abs(value) < 1e15 { return String(Int64(value)) }
        return value.description
    }
}

protocol Series: AnyObject, Sendable {
    func write(_ name: String, _ labels: String, to text: inout String)
}
