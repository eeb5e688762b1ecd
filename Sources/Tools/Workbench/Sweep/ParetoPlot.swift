import LatheFormat

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Quality against bytes and against speed, as an SVG drawing: two panels, one point for each recipe, and through those
/// that no other recipe beats in both the line of what can be had.
package struct ParetoPlot {
    private struct Point {
        let name: String
        let family: Int
        let isPruned: Bool
        let value: Double
        let divergence: Double
    }

    private static let width = 560.0
    private static let height = 430.0
    private static let margin = (left: 74.0, right: 24.0, top: 56.0, bottom: 62.0)
    private static let families = [("float32", "#6b7280"), ("int8", "#1d4ed8"), ("int4", "#c2410c")]

    private let results: [SweepResult]
    private let bandwidth: Double

    package init(_ results: [SweepResult]) {
        self.results = results
        let probes = results.compactMap { $0.speed.decode.last?.probeBytesPerSecond }.sorted()
        bandwidth = probes.isEmpty ? 1 : probes[probes.count / 2]
    }

    package var svg: String {
        let threads = results.first?.speed.decode.last?.threads ?? 1
        let bytes = panel(
            "Quality against size", axis: "file, MB", points: points { Double($0.fileBytes) / 1e6 },
            smallerIsBetter: true)
        let speed = panel(
            "Quality against speed",
            axis: "decode, tokens/s on \(threads) thread\(threads == 1 ? "" : "s") at "
                + "\((bandwidth / 1e9).rounded(to: 1)) GB/s",
            points: points { $0.decodeSpeed(at: bandwidth) }, smallerIsBetter: false)
        return """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Self.text(2 * Self.width)) \
            \(Self.text(Self.height + 34))" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#111827">
            <rect width="100%" height="100%" fill="#ffffff"/>
            \(bytes)
            <g transform="translate(\(Self.text(Self.width)) 0)">
            \(speed)
            </g>
            \(legend)
            </svg>

            """
    }

    private func points(_ value: (SweepResult) -> Double) -> [Point] {
        results.map { result in
            let recipe = try? result.recipe.object(at: result.name)
            let weights = try? recipe?.string("weights", in: result.name)
            return Point(
                name: result.name, family: weights == "f32" ? 0 : weights == "int4" ? 2 : 1,
                isPruned: recipe?.contains("prune") ?? false, value: value(result),
                divergence: result.quality.meanDivergence)
        }
    }

    // MARK: A panel

    private func panel(_ title: String, axis: String, points: [Point], smallerIsBetter: Bool) -> String {
        let front = Self.front(points, smallerIsBetter: smallerIsBetter)
        // float32 differs from itself by rounding alone; it stands at the bottom edge instead of stretching the axis.
        let real = points.map(\.divergence).filter { $0 > Self.floorDivergence }
        let vertical = Scale(
            log10(real.min() ?? 1e-4), log10(real.max() ?? 1), from: Self.height - Self.margin.bottom,
            to: Self.margin.top)
        let horizontal = Scale(
            0, points.map(\.value).max() ?? 1, from: Self.margin.left, to: Self.width - Self.margin.right,
            startsAtZero: true)
        func x(_ point: Point) -> Double { horizontal.position(point.value) }
        func y(_ point: Point) -> Double { vertical.position(log10(max(point.divergence, 1e-300))) }

        var parts = [
            Self.label(title, Self.margin.left, 26, size: 15, weight: "bold"),
            grid(horizontal, vertical),
            Self.label(
                axis, (Self.margin.left + Self.width - Self.margin.right) / 2, Self.height - 18, anchor: "middle"),
            """
            <text transform="translate(20 \(Self.text((Self.margin.top + Self.height - Self.margin.bottom) / 2))) \
            rotate(-90)" text-anchor="middle">KL(float32 ‖ model), nats (lower is better)</text>
            """,
        ]
        let path = front.map { "\(Self.text(x($0))) \(Self.text(y($0)))" }.joined(separator: " L ")
        parts.append("<path d=\"M \(path)\" fill=\"none\" stroke=\"#9ca3af\" stroke-width=\"1.5\"/>")
        for point in points { parts.append(mark(point, x(point), y(point))) }
        parts += labels(front.map { ($0.name, x($0), y($0)) }, around: points.map { (x($0), y($0)) })
        return parts.joined(separator: "\n")
    }

    private static let floorDivergence = 1e-8

    /// The points that no other beats in value and divergence at once, by value.
    private static func front(_ points: [Point], smallerIsBetter: Bool) -> [Point] {
        var front: [Point] = []
        var best = Double.infinity
        let sorted = points.sorted { a, b in
            a.value != b.value ? (a.value < b.value) == smallerIsBetter : a.divergence < b.divergence
        }
        for point in sorted where point.divergence < best {
            front.append(point)
            best = point.divergence
        }
        return front
    }

    private func mark(_ point: Point, _ x: Double, _ y: Double) -> String {
        let color = Self.families[point.family].1
        let title = "<title>\(Self.escaped(point.name)), \(point.divergence.scientific) nats</title>"
        if point.isPruned {
            return """
                <rect x="\(Self.text(x - 4.5))" y="\(Self.text(y - 4.5))" width="9" height="9" fill="#ffffff" \
                stroke="\(color)" stroke-width="1.8">\(title)</rect>
                """
        }
        return "<circle cx=\"\(Self.text(x))\" cy=\"\(Self.text(y))\" r=\"5\" fill=\"\(color)\">\(title)</circle>"
    }

    // MARK: Text

    /// A label for each point of the front, moved up or down until it covers neither another label nor a point.
    private func labels(_ items: [(String, Double, Double)], around points: [(Double, Double)]) -> [String] {
        struct Box {
            let left, top, right, bottom: Double
            func meets(_ other: Box) -> Bool {
                left < other.right && other.left < right && top < other.bottom && other.top < bottom
            }
        }
        var taken = points.map { Box(left: $0.0 - 6, top: $0.1 - 6, right: $0.0 + 6, bottom: $0.1 + 6) }
        var result: [String] = []
        for (name, x, y) in items {
            let length = Double(name.count) * 5.6
            var placed: (Double, Double, Box)?
            search: for shift in [0.0, -12, 12, -24, 24, -36, 36, -48, 48, -60, 60] {
                for left in [x + 9, x - 9 - length] {
                    let box = Box(left: left, top: y + shift - 7, right: left + length, bottom: y + shift + 6)
                    guard box.left > Self.margin.left, box.right < Self.width - 4, box.top > Self.margin.top - 12,
                        box.bottom < Self.height - Self.margin.bottom + 4, !taken.contains(where: box.meets)
                    else { continue }
                    placed = (left, y + shift, box)
                    break search
                }
            }
            // Where there is no room, the name is in the point's title.
            guard let (left, middle, box) = placed else { continue }
            taken.append(box)
            if abs(middle - y) > 10 {
                let near = left > x ? left - 2 : left + length + 2
                result.append(
                    """
                    <line x1="\(Self.text(x))" y1="\(Self.text(y))" x2="\(Self.text(near))" y2="\(Self.text(middle))" \
                    stroke="#d1d5db"/>
                    """)
            }
            result.append(Self.label(name, left, middle + 3.5, size: 10.5))
        }
        return result
    }

    private func grid(_ horizontal: Scale, _ vertical: Scale) -> String {
        let (left, right) = (Self.margin.left, Self.width - Self.margin.right)
        let (top, bottom) = (Self.margin.top, Self.height - Self.margin.bottom)
        var parts: [String] = []
        for (value, position) in horizontal.ticks() {
            parts.append(Self.line(position, top, position, bottom, "#f3f4f6"))
            parts.append(Self.label(Self.tick(value), position, bottom + 18, anchor: "middle"))
        }
        for exponent in Int(
            vertical.low.rounded(.up))...max(
                Int(vertical.low.rounded(.up)), Int(vertical.high.rounded(.down)))
        {
            let position = vertical.position(Double(exponent))
            guard position >= top - 0.5 && position <= bottom + 0.5 else { continue }
            parts.append(Self.line(left, position, right, position, "#e5e7eb"))
            parts.append(Self.label("1e\(exponent)", left - 8, position + 4, anchor: "end"))
        }
        parts.append(Self.line(left, bottom, right, bottom, "#374151"))
        parts.append(Self.line(left, top, left, bottom, "#374151"))
        return parts.joined(separator: "\n")
    }

    private var legend: String {
        let y = Self.height + 14
        var x = Self.margin.left
        var parts: [String] = []
        for (index, (name, color)) in Self.families.enumerated() {
            parts.append("<circle cx=\"\(Self.text(x))\" cy=\"\(Self.text(y - 4))\" r=\"5\" fill=\"\(color)\"/>")
            parts.append(Self.label(name, x + 10, y))
            x += index == 0 ? 76 : 62
        }
        parts.append(
            """
            <rect x="\(Self.text(x))" y="\(Self.text(y - 8.5))" width="9" height="9" fill="#ffffff" stroke="#374151" \
            stroke-width="1.8"/>
            """)
        parts.append(Self.label("pruned", x + 15, y))
        parts.append(Self.line(x + 78, y - 4, x + 108, y - 4, "#9ca3af"))
        parts.append(Self.label("not beaten in both", x + 114, y))
        return parts.joined(separator: "\n")
    }

    // MARK: Pieces

    /// From values to places on the drawing.
    private struct Scale {
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

    private static func text(_ value: Double) -> String { value.rounded(to: 1) }
    private static func tick(_ value: Double) -> String {
        value.rounded(to: value < 1 && value > 0 ? 2 : value < 10 && value != value.rounded() ? 1 : 0)
    }

    private static func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ color: String) -> String {
        "<line x1=\"\(text(x1))\" y1=\"\(text(y1))\" x2=\"\(text(x2))\" y2=\"\(text(y2))\" stroke=\"\(color)\"/>"
    }

    private static func label(
        _ text: String, _ x: Double, _ y: Double, anchor: String = "start", size: Double = 12, weight: String = "normal"
    ) -> String {
        """
        <text x="\(Self.text(x))" y="\(Self.text(y))" text-anchor="\(anchor)" font-size="\(size)" \
        font-weight="\(weight)">\(escaped(text))</text>
        """
    }

    private static func escaped(_ text: String) -> String {
        text.map { $0 == "&" ? "&amp;" : $0 == "<" ? "&lt;" : $0 == ">" ? "&gt;" : String($0) }.joined()
    }
}
