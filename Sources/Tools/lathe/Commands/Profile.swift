import ArgumentParser
import LatheFormat
import LatheWorkbench

/// Runs on the main thread, whose end is what the child looks at.
struct ProfileCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "profile",
        abstract: "Run a command and show where its memory goes: by phase, by kind, over time.",
        discussion: """
            As `lathe profile --plot memory.svg -- generate --model model.lathe "Once"`. Looks at the process every few \
            milliseconds; what the command prints goes to stderr. Ends as the command ends.
            """)

    @Option(help: ArgumentHelp("Draw memory over time.", valueName: "out.svg"), completion: .file(extensions: ["svg"]))
    var plot: String?
    @Option(help: ArgumentHelp("Time from one look to the next; more where looking takes long.", valueName: "ms"))
    var interval: Int = 5
    @Flag(help: "Print one JSON object instead of the tables.")
    var json = false
    @Argument(parsing: .captureForPassthrough, help: "The command with its arguments, behind `--`.")
    var command: [String]

    private var words: [String] { command.first == "--" ? Array(command.dropFirst()) : command }

    func validate() throws {
        guard (1...10_000).contains(interval) else { throw ValidationError("--interval is 1 to 10000 milliseconds.") }
        guard let name = words.first else { throw ValidationError("Say which command to profile, behind `--`.") }
        if name == "profile" { throw ValidationError("A profile cannot be profiled.") }
    }

    func run() throws {
        let clock = ContinuousClock()
        let start = clock.now
        func now() -> Double { (clock.now - start).seconds }
        let pipe = try PhasePipe()
        let child = try SupervisedProcess(
            words, environment: [(PhasePipe.variable, "\(pipe.writeEnd)")], outputToErrors: true,
            passing: pipe.writeEnd)
        var profile = MemoryProfile()
        var probe = MemoryProbe(process: child.id)
        var pause = interval
        let ending: SupervisedProcess.Ending
        while true {
            let end = child.ending(waitingMilliseconds: 0)
            for line in pipe.lines(waitingMilliseconds: end == nil ? pause : 0) { profile.hear(line, at: now()) }
            if let end {
                ending = end
                break
            }
            if let process = profile.process, process != probe.process { probe = MemoryProbe(process: process) }
            let before = now()
            if var sample = probe.sample() {
                sample.time = now()
                profile.add(sample)
            }
            // Looking stops the process for a moment; a fifth of the time at most goes to it.
            pause = max(interval, Int(4000 * (now() - before)))
        }
        profile.end(at: now())
        if let plot {
            try Files.write(ProfilePlot(profile, title: "lathe " + words.joined(separator: " ")).svg, to: plot)
        }
        if json { StandardOutput.print(json(profile, ending)) } else { printTables(profile) }
        SupervisedProcess.exit(as: ending)
    }

    private func json(_ profile: MemoryProfile, _ ending: SupervisedProcess.Ending) -> JSON {
        guard case .object(let object) = profile.json else { return profile.json }
        let members: [(String, JSON)] = [
            ("command", .array(words.map { .string($0) })), ("exit_code", ending.code.map(JSON.number) ?? .null),
            ("signal", ending.signal.map(JSON.number) ?? .null), ("interval_seconds", .number(Double(interval) / 1000)),
        ]
        return .object(JSONObject(members + object.members.map { ($0.key, $0.value) }))
    }

    private func printTables(_ profile: MemoryProfile) {
        var phases = TextTable(
            ["phase", "duration", "peak anonymous", "peak file", "peak total", "major faults"],
            rightAligned: [1, 2, 3, 4, 5])
        for phase in profile.summaries + [profile.whole] {
            phases.add([
                phase.count > 1 ? "\(phase.name) ×\(phase.count)" : phase.name,
                "\((phase.seconds * 1000).rounded(to: 1)) ms", Bytes.text(phase.peakAnonymous),
                Bytes.text(phase.peakFile), Bytes.text(phase.peakTotal), "\(phase.majorFaults)",
            ])
        }
        StandardOutput.write(phases.text)
        if !profile.comparison.isEmpty {
            var table = TextTable(["category", "planned", "measured", "difference"], rightAligned: [1, 2, 3])
            for (category, planned, measured) in profile.comparison {
                table.add([
                    category, planned.map(Bytes.text) ?? "–", measured.map(Bytes.text) ?? "–",
                    planned.flatMap { planned in measured.map { Self.difference($0 - planned) } } ?? "",
                ])
            }
            let planned = profile.planned.reduce(0) { $0 + $1.bytes }
            table.add([
                "peak resident", Bytes.text(planned), Bytes.text(profile.peakResident),
                Self.difference(profile.peakResident - planned),
            ])
            StandardOutput.print("")
            StandardOutput.write(table.text)
        }
        StandardOutput.print(closingLine(profile))
    }

    private static func difference(_ bytes: Int) -> String {
        (bytes < 0 ? "−" : "+") + Bytes.text(abs(bytes))
    }

    private func closingLine(_ profile: MemoryProfile) -> String {
        var parts = ["peak resident \(Bytes.text(profile.peakResident))"]
        if let peak = profile.fencePeak { parts.append("charged by the fence \(Bytes.text(peak))") }
        if let budget = profile.budget {
            let left = budget - (profile.fencePeak ?? profile.peakResident)
            parts.append(
                "budget \(Bytes.text(budget)), \(Bytes.text(abs(left))) \(left < 0 ? "too little" : "left")")
        }
        if let plot { parts.append("drawn in \(plot)") }
        return parts.joined(separator: " · ")
    }
}
