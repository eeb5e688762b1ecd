import LatheFormat

/// Memory over time as an SVG drawing: what is the process's own below, what stands in files above it, the phases as
/// bands, the budget as a line; beside it the plan, where there is one.
package struct ProfilePlot {
    private static let width = 1000.0
    private static let height = 500.0
    private static let top = 92.0
    private static let bottom = 446.0
    private static let left = 66.0
    private static let bandColors = ["#f3f4f6", "#e0f2fe", "#fef9c3", "#dcfce7", "#fae8ff", "#ffe4e6"]
    private static let anonymousColor = "#2563eb"
    private static let fileColor = "#f59e0b"
    private static let swapColor = "#7f1d1d"
    private static let chargedColor = "#047857"
    private static let budgetColor = "#b91c1c"
    /// Of the plan's categories.
    private static let categoryColors = ["#1e3a8a", "#2563eb", "#60a5fa", "#93c5fd", "#bfdbfe", "#dbeafe", "#e5e7eb"]

    private let profile: MemoryProfile
    private let title: String
    private let right: Double
    private let horizontal: SVG.Scale
    private let vertical: SVG.Scale
    private let budgetFits: Bool

    package init(_ profile: MemoryProfile, title: String) {
        self.profile = profile
        self.title = title
        right = profile.planned.isEmpty ? Self.width - 24 : Self.width - 210
        let plannedTotal = profile.planned.reduce(0) { $0 + $1.bytes }
        let charged = profile.samples.compactMap(\.charged).max() ?? 0
        let highest = max(profile.peakResident, plannedTotal, charged, 1)
        // A budget far above would press what is to be seen against the floor.
        budgetFits = profile.budget.map { $0 <= 3 * highest } ?? false
        let roof = max(highest, budgetFits ? profile.budget! : 0)
        vertical = SVG.Scale(0, Double(roof) / 1e6, from: Self.bottom, to: Self.top, startsAtZero: true)
        horizontal = SVG.Scale(
            0, max(profile.endTime, 1e-3) / 1.08, from: Self.left, to: right, startsAtZero: true)
    }

    package var svg: String {
        let parts = [
            bands, grid, areas, chargedLine, budgetLine, phaseLabels, peakMark, planBar, legend,
            SVG.label(title, Self.left, 24, size: 15, weight: "bold"),
            SVG.label("seconds", (Self.left + right) / 2, Self.height - 16, anchor: "middle"),
            """
            <text transform="translate(18 \(SVG.text((Self.top + Self.bottom) / 2))) rotate(-90)" \
            text-anchor="middle">memory, MB</text>
            """,
        ]
        return SVG.document(
            width: Self.width, height: Self.height, parts.filter { !$0.isEmpty }.joined(separator: "\n"))
    }

    private func y(_ bytes: Int) -> Double { vertical.position(Double(bytes) / 1e6) }
    private func x(_ time: Double) -> Double { horizontal.position(time) }

    // MARK: Time

    private func color(of phase: String) -> String {
        let names = profile.summaries.map(\.name)
        return Self.bandColors[(names.firstIndex(of: phase) ?? 0) % Self.bandColors.count]
    }

    private var bands: String {
        profile.phases.map { phase in
            SVG.rectangle(
                x(phase.start), Self.top, x(phase.end), Self.bottom, color(of: phase.name),
                title: "\(phase.name), \(((phase.end - phase.start) * 1000).rounded(to: 1)) ms")
        }.joined(separator: "\n")
    }

    /// Each name once, over the longest band that has it, in three rows so that short phases find room too.
    private var phaseLabels: String {
        var parts: [String] = []
        for phase in profile.phases {
            parts.append(SVG.line(x(phase.start), Self.top, x(phase.start), Self.bottom, "#9ca3af", dashes: "2 3"))
        }
        var rowEnds = [0.0, 0.0, 0.0]
        for summary in profile.summaries where summary.name != "start" {
            guard let phase = profile.phases.filter({ $0.name == summary.name })
                .max(by: { $0.end - $0.start < $1.end - $1.start })
            else { continue }
            let text = summary.count > 1 ? "\(summary.name) ×\(summary.count)" : summary.name
            let length = Double(text.count) * 6.4
            let begin = min(x(phase.start) + 3, right - length)
            guard let row = rowEnds.firstIndex(where: { $0 <= begin }) else { continue }
            rowEnds[row] = begin + length + 6
            let base = Self.top - 8 - Double(row) * 14
            parts.append(SVG.line(x(phase.start), base - 8, x(phase.start), Self.top, "#9ca3af"))
            parts.append(SVG.label(text, begin, base, size: 11.5))
        }
        return parts.joined(separator: "\n")
    }

    private var grid: String {
        var parts: [String] = []
        for (value, position) in vertical.ticks() {
            parts.append(SVG.line(Self.left, position, right, position, "#d1d5db"))
            parts.append(SVG.label(SVG.tick(value), Self.left - 8, position + 4, anchor: "end"))
        }
        for (value, position) in horizontal.ticks() where position <= right + 0.5 {
            parts.append(SVG.line(position, Self.bottom, position, Self.bottom + 5, "#374151"))
            parts.append(SVG.label(SVG.tick(value), position, Self.bottom + 19, anchor: "middle"))
        }
        parts.append(SVG.line(Self.left, Self.bottom, right, Self.bottom, "#374151"))
        return parts.joined(separator: "\n")
    }

    // MARK: Memory

    /// At most two points a pixel, of each the greatest: so no peak is lost and a long run makes no long file.
    private var drawn: [MemorySample] {
        let limit = 2000
        guard profile.samples.count > limit else { return profile.samples }
        let step = (profile.samples.count + limit - 1) / limit
        return stride(from: 0, to: profile.samples.count, by: step).map { start in
            profile.samples[start..<min(start + step, profile.samples.count)].max { $0.resident < $1.resident }!
        }
    }

    private var areas: String {
        let samples = drawn
        guard samples.count > 1 else { return "" }
        func area(_ low: (MemorySample) -> Int, _ high: (MemorySample) -> Int, _ color: String) -> String {
            let up = samples.map { "\(SVG.text(x($0.time))) \(SVG.text(y(high($0))))" }
            let down = samples.reversed().map { "\(SVG.text(x($0.time))) \(SVG.text(y(low($0))))" }
            return "<path d=\"M \((up + down).joined(separator: " L ")) Z\" fill=\"\(color)\" fill-opacity=\"0.82\"/>"
        }
        var parts = [
            area({ _ in 0 }, \.anonymous, Self.anonymousColor), area(\.anonymous, \.resident, Self.fileColor),
        ]
        if samples.contains(where: { $0.swap > 0 }) {
            parts.append(area(\.resident, { $0.resident + $0.swap }, Self.swapColor))
        }
        return parts.joined(separator: "\n")
    }

    /// What a fence charges: with page cache that nobody has mapped, without pages that were charged elsewhere.
    private var chargedLine: String {
        let points = drawn.compactMap { sample in
            sample.charged.map { "\(SVG.text(x(sample.time))) \(SVG.text(y($0)))" }
        }
        guard points.count > 1 else { return "" }
        return """
            <path d="M \(points.joined(separator: " L "))" fill="none" stroke="\(Self.chargedColor)" stroke-width="1.6"/>
            """
    }

    private var budgetLine: String {
        guard let budget = profile.budget else { return "" }
        let text = "budget \(Bytes.text(budget))"
        guard budgetFits else {
            return SVG.label("\(text), far above", right - 6, Self.top + 14, anchor: "end", color: Self.budgetColor)
        }
        return SVG.line(Self.left, y(budget), right, y(budget), Self.budgetColor, width: 2, dashes: "8 4") + "\n"
            + SVG.label(text, right - 6, y(budget) - 6, anchor: "end", weight: "bold", color: Self.budgetColor)
    }

    private var peakMark: String {
        guard let peak = profile.peakSample else { return "" }
        let (x, y) = (x(peak.time), y(peak.resident))
        let text =
            "peak \(Bytes.text(peak.resident)): \(Bytes.text(peak.anonymous)) anonymous, \(Bytes.text(peak.file)) file"
        let toTheLeft = x > (Self.left + right) / 2
        // Written into the picture: behind it, white, so that it can be read on every colour.
        let place = (x: x + (toTheLeft ? -9 : 9), y: max(y - 7, Self.top + 12))
        let anchor = toTheLeft ? "end" : "start"
        return """
            <circle cx="\(SVG.text(x))" cy="\(SVG.text(y))" r="4" fill="#111827"/>
            <g stroke="#ffffff" stroke-width="3" stroke-linejoin="round" paint-order="stroke">
            \(SVG.label(text, place.x, place.y, anchor: anchor, weight: "bold"))
            </g>
            """
    }

    // MARK: Beside

    private var planBar: String {
        guard !profile.planned.isEmpty else { return "" }
        let (start, end) = (right + 26, right + 62)
        var parts = [SVG.label("planned", (start + end) / 2, Self.top - 8, anchor: "middle", size: 11.5)]
        var below = 0
        var lastLabel = Double.infinity
        for (index, (category, bytes)) in profile.planned.enumerated() {
            let (low, high) = (y(below), y(below + bytes))
            below += bytes
            let color = Self.categoryColors[index % Self.categoryColors.count]
            let text = "\(category) \(Bytes.text(bytes))"
            parts.append(SVG.rectangle(start, high, end, low, color, title: text))
            // From below upwards, each above the last.
            let base = min((low + high) / 2 + 4, lastLabel - 13)
            lastLabel = base
            parts.append(SVG.line(end, (low + high) / 2, end + 8, base - 4, "#9ca3af"))
            parts.append(SVG.label(text, end + 11, base, size: 11))
        }
        return parts.joined(separator: "\n")
    }

    private var legend: String {
        var entries = [("anonymous (its own)", Self.anonymousColor), ("file (mapped, can be dropped)", Self.fileColor)]
        if profile.samples.contains(where: { $0.swap > 0 }) { entries.append(("swapped out", Self.swapColor)) }
        if profile.samples.contains(where: { $0.charged != nil }) {
            entries.append(("charged by the fence", Self.chargedColor))
        }
        var x = Self.left
        return entries.map { name, color in
            defer { x += Double(name.count) * 6.2 + 34 }
            return SVG.rectangle(x, 34, x + 11, 45, color) + SVG.label(name, x + 16, 44, size: 11.5)
        }.joined(separator: "\n")
    }
}
