#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The pieces of which drawings are made.
enum SVG {
    static func document(width: Double, height: Double, _ content: String) -> String {
        """
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(text(width)) \(text(height))" \
        font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#111827">
        <rect width="100%" height="100%" fill="#ffffff"/>
        \(content)
        </svg>

        """
    }

    /// From values to places on the drawing.
    struct Scale {
        let low: Double
        let high: Double
        let start: Double
        let end: Double

        init(_ low: Double, _ high: Double, from start: Double, to end: Double, startsAtZero: Bool = false) {
            let span = max(high - low, startsAtZero ? abs(high) : 0.5)
            self.low = startsAtZero ? 0 : low - 0.08 * span
            self.high = high + 0.08 * span
            self.start = start
            self.end = end
        }

        /// Values beyond the scale stand at its edges.
        func position(_ value: Double) -> Double {
            start + (end - start) * (min(max(value, low), high) - low) / (high - low)
        }

        /// Round numbers, five to ten of them.
        func ticks() -> [(Double, Double)] {
            let power = pow(10, floor(log10((high - low) / 5)))
            let step = [1, 2, 5, 10].map { $0 * power }.first { (high - low) / $0 <= 8 } ?? power
            return stride(from: 0, through: high, by: step).filter { $0 >= low }.map { ($0, position($0)) }
        }
    }

    static func text(_ value: Double) -> String { value.rounded(to: 1) }

    static func tick(_ value: Double) -> String {
        value.rounded(to: value < 1 && value > 0 ? 2 : value < 10 && value != value.rounded() ? 1 : 0)
    }

    static func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ color: String, width: Double = 1, dashes: String? = nil
    ) -> String {
        let more = (width == 1 ? "" : " stroke-width=\"\(width)\"") + (dashes.map { " stroke-dasharray=\"\($0)\"" } ?? "")
        return
            "<line x1=\"\(text(x1))\" y1=\"\(text(y1))\" x2=\"\(text(x2))\" y2=\"\(text(y2))\" stroke=\"\(color)\"\(more)/>"
    }

    static func rectangle(
        _ left: Double, _ top: Double, _ right: Double, _ bottom: Double, _ color: String, title: String? = nil
    ) -> String {
        let place = "x=\"\(text(left))\" y=\"\(text(top))\" width=\"\(text(right - left))\" height=\"\(text(bottom - top))\""
        guard let title else { return "<rect \(place) fill=\"\(color)\"/>" }
        return "<rect \(place) fill=\"\(color)\"><title>\(escaped(title))</title></rect>"
    }

    static func label(
        _ text: String, _ x: Double, _ y: Double, anchor: String = "start", size: Double = 12, weight: String = "normal",
        color: String? = nil
    ) -> String {
        """
        <text x="\(Self.text(x))" y="\(Self.text(y))" text-anchor="\(anchor)" font-size="\(size)" \
        font-weight="\(weight)"\(color.map { " fill=\"\($0)\"" } ?? "")>\(escaped(text))</text>
        """
    }

    static func escaped(_ text: String) -> String {
        text.map { $0 == "&" ? "&amp;" : $0 == "<" ? "&lt;" : $0 == ">" ? "&gt;" : String($0) }.joined()
    }
}
