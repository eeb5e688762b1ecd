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
        return SVG.document(
            width: 2 * Self.width, height: Self.height + 34,
            """
            \(bytes)
            <g transform="translate(\(SVG.text(Self.width)) 0)">
            \(speed)
            </g>
            \(legend)
            """)
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
        let vertical = SVG.Scale(
            log10(real.min() ?? 1e-4), log10(real.max() ?? 1), from: Self.height - Self.margin.bottom,
            to: Self.margin.top)
        let horizontal = SVG.Scale(
            0, points.map(\.value).max() ?? 1, from: Self.margin.left, to: Self.width - Self.margin.right,
            startsAtZero: true)
        func x(_ point: Point) -> Double { horizontal.position(point.value) }
        func y(_ point: Point) -> Double { vertical.position(log10(max(point.divergence, 1e-300))) }

        var parts = [
            SVG.label(title, Self.margin.left, 26, size: 15, weight: "bold"),
            grid(horizontal, vertical),
            SVG.label(
                axis, (Self.margin.left + Self.width - Self.margin.right) / 2, Self.height - 18, anchor: "middle"),
            """
            <text transform="translate(20 \(SVG.text((Self.margin.top + Self.height - Self.margin.bottom) / 2))) \
            rotate(-90)" text-anchor="middle">KL(float32 ‖ model), nats (lower is better)</text>
            """,
        ]
        let path = front.map { "\(SVG.text(x($0))) \(SVG.text(y($0)))" }.joined(separator: " L ")
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
        let title = "<title>\(SVG.escaped(point.name)), \(point.divergence.scientific) nats</title>"
        if point.isPruned {
            return """
                <rect x="\(SVG.text(x - 4.5))" y="\(SVG.text(y - 4.5))" width="9" height="9" fill="#ffffff" \
                stroke="\(color)" stroke-width="1.8">\(title)</rect>
                """
        }
        return "<circle cx=\"\(SVG.text(x))\" cy=\"\(SVG.text(y))\" r=\"5\" fill=\"\(color)\">\(title)</circle>"
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
                    <line x1="\(SVG.text(x))" y1="\(SVG.text(y))" x2="\(SVG.text(near))" y2="\(SVG.text(middle))" \
                    stroke="#d1d5db"/>
                    """)
            }
            result.append(SVG.label(name, left, middle + 3.5, size: 10.5))
        }
        return result
    }

    private func grid(_ horizontal: SVG.Scale, _ vertical: SVG.Scale) -> String {
        let (left, right) = (Self.margin.left, Self.width - Self.margin.right)
        let (top, bottom) = (Self.margin.top, Self.height - Self.margin.bottom)
        var parts: [String] = []
        for (value, position) in horizontal.ticks() {
            parts.append(SVG.line(position, top, position, bottom, "#f3f4f6"))
            parts.append(SVG.label(SVG.tick(value), position, bottom + 18, anchor: "middle"))
        }
        for exponent in Int(
            vertical.low.rounded(.up))...max(
                Int(vertical.low.rounded(.up)), Int(vertical.high.rounded(.down)))
        {
            let position = vertical.position(Double(exponent))
            guard position >= top - 0.5 && position <= bottom + 0.5 else { continue }
            parts.append(SVG.line(left, position, right, position, "#e5e7eb"))
            parts.append(SVG.label("1e\(exponent)", left - 8, position + 4, anchor: "end"))
        }
        parts.append(SVG.line(left, bottom, right, bottom, "#374151"))
        parts.append(SVG.line(left, top, left, bottom, "#374151"))
        return parts.joined(separator: "\n")
    }

    private var legend: String {
        let y = Self.height + 14
        var x = Self.margin.left
        var parts: [String] = []
        for (index, (name, color)) in Self.families.enumerated() {
            parts.append("<circle cx=\"\(SVG.text(x))\" cy=\"\(SVG.text(y - 4))\" r=\"5\" fill=\"\(color)\"/>")
            parts.append(SVG.label(name, x + 10, y))
            x += index == 0 ? 76 : 62
        }
        parts.append(
            """
            <rect x="\(SVG.text(x))" y="\(SVG.text(y - 8.5))" width="9" height="9" fill="#ffffff" stroke="#374151" \
            stroke-width="1.8"/>
            """)
        parts.append(SVG.label("pruned", x + 15, y))
        parts.append(SVG.line(x + 78, y - 4, x + 108, y - 4, "#9ca3af"))
        parts.append(SVG.label("not beaten in both", x + 114, y))
        return parts.joined(separator: "\n")
    }
}
