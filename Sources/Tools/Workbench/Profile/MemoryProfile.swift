package import LatheFormat

/// A process's memory over time, and what it said that it was doing.
package struct MemoryProfile: Sendable {
    package private(set) var samples: [MemorySample] = []
    package private(set) var phases: [Phase] = []
    /// Bytes that the process was allowed.
    package private(set) var budget: Int?
    /// What was planned, and what was really had, by category: as the process tells it.
    package private(set) var planned: [(category: String, bytes: Int)] = []
    package private(set) var measured: [(category: String, bytes: Int)] = []
    /// What a fence counted: a report's JSON.
    package private(set) var fence: JSON?
    /// Which process is meant, where it is not the one that was started.
    package private(set) var process: Int?
    package private(set) var endTime = 0.0

    package struct Phase: Hashable, Sendable {
        package let name: String
        package let start: Double
        package var end: Double
    }

    package init() {}

    // MARK: Recording

    package mutating func add(_ sample: MemorySample) { samples.append(sample) }

    /// A line as `PhaseMarks` tells it; what cannot be understood is ignored.
    package mutating func hear(_ line: String, at time: Double) {
        guard let space = line.firstIndex(of: " ") else { return }
        let text = String(line[line.index(after: space)...])
        switch line[..<space] {
        case "process": process = Int(text)
        case "budget": budget = Int(text)
        case "phase":
            endPhase(at: time)
            phases.append(Phase(name: text, start: time, end: time))
        case "plan": planned = Self.categories(text)
        case "measured": measured = Self.categories(text)
        case "fence": fence = try? JSON.parse(Array(text.utf8), source: "fence")
        default: break
        }
    }

    package mutating func end(at time: Double) {
        endPhase(at: time)
        endTime = time
    }

    private mutating func endPhase(at time: Double) {
        if !phases.isEmpty { phases[phases.count - 1].end = time }
    }

    private static func categories(_ text: String) -> [(category: String, bytes: Int)] {
        guard let object = try? JSON.parse(Array(text.utf8), source: "plan").object(at: "plan"),
            let categories = try? object.object("categories", in: "plan")
        else { return [] }
        return categories.members.compactMap { member in
            (try? member.value.int(at: member.key, minimum: 0)).map { (member.key, $0) }
        }
    }

    // MARK: What it shows

    package var peakResident: Int { samples.map { max($0.resident, $0.peakResident) }.max() ?? 0 }
    /// The fence's count where there was one: it is what the system enforces.
    package var fencePeak: Int? {
        try? fence?.object(at: "fence").int("peak_bytes", in: "fence", minimum: 0)
    }
    package var peakSample: MemorySample? { samples.max { $0.resident < $1.resident } }

    package struct Summary: Hashable, Sendable {
        package let name: String
        /// How often the phase came.
        package let count: Int
        package let seconds: Double
        package let peakAnonymous: Int
        package let peakFile: Int
        package let peakTotal: Int
        package let peakSwap: Int
        package let majorFaults: Int
    }

    /// One for each name, in the order of their first coming; first of all `start`, before anything was said.
    package var summaries: [Summary] {
        var spans = phases
        if let first = spans.first, first.start > 0 { spans.insert(Phase(name: "start", start: 0, end: first.start), at: 0) }
        var names: [String] = []
        for span in spans where !names.contains(span.name) { names.append(span.name) }
        return names.map { name in summary(name, spans.filter { $0.name == name }) }
    }

    package var whole: Summary { summary("whole", [Phase(name: "whole", start: 0, end: endTime)]) }

    private func summary(_ name: String, _ spans: [Phase]) -> Summary {
        var inside: [MemorySample] = []
        var faults = 0
        for span in spans {
            let here = samples.filter { $0.time >= span.start && $0.time <= span.end }
            inside += here
            faults += (here.last?.majorFaults ?? 0) - (here.first?.majorFaults ?? 0)
        }
        func peak(_ value: (MemorySample) -> Int) -> Int { inside.map(value).max() ?? 0 }
        return Summary(
            name: name, count: spans.count, seconds: spans.reduce(0) { $0 + $1.end - $1.start },
            peakAnonymous: peak(\.anonymous), peakFile: peak(\.file), peakTotal: peak(\.resident),
            peakSwap: peak(\.swap), majorFaults: faults)
    }

    /// Planned beside measured, categories of either.
    package var comparison: [(category: String, planned: Int?, measured: Int?)] {
        var names = planned.map(\.category)
        names += measured.map(\.category).filter { !names.contains($0) }
        return names.map { name in
            (
                name, planned.first { $0.category == name }?.bytes, measured.first { $0.category == name }?.bytes
            )
        }
    }

    package var json: JSON {
        func bytes(_ list: [(category: String, bytes: Int)]) -> JSON {
            .object(JSONObject(list.map { ($0.category, JSON.number($0.bytes)) }))
        }
        return [
            "seconds": .number(endTime), "samples": .number(samples.count),
            "peak_resident_bytes": .number(peakResident), "budget_bytes": budget.map(JSON.number) ?? .null,
            "fence": fence ?? .null,
            "phases": .array((summaries + [whole]).map(\.json)),
            "planned": planned.isEmpty ? .null : bytes(planned),
            "measured": measured.isEmpty ? .null : bytes(measured),
        ]
    }
}

extension MemoryProfile.Summary {
    fileprivate var json: JSON {
        [
            "name": .string(name), "count": .number(count), "duration_seconds": .number(seconds),
            "peak_anonymous_bytes": .number(peakAnonymous), "peak_file_bytes": .number(peakFile),
            "peak_total_bytes": .number(peakTotal), "peak_swap_bytes": .number(peakSwap),
            "major_faults": .number(majorFaults),
        ]
    }
}
