import Lathe
import LatheFormat

/// Run by AllocationTests with the counter preloaded; prints what it counted, a JSON object a line, and the backtraces of
/// what a step allocated to standard error.
///
///     AllocationProbe check CASE
///     AllocationProbe engine CHECKPOINT|synthetic WEIGHTS THREADS
@main
struct AllocationProbe {
    static func main() async throws {
        let arguments = CommandLine.arguments
        guard let counter = Counter() else { fatalError("The counter is not preloaded.") }
        switch arguments[1] {
        case "check":
            Check(rawValue: arguments[2])!.run(counter)
            report(counter, arguments[2])
        case "engine":
            let isSynthetic = arguments[2] == "synthetic"
            let model =
                try isSynthetic
                ? Model.synthetic(weights: arguments[3]) : Model.compiled(arguments[2], weights: arguments[3])
            // Prompts take several chunks, and texts go over borders of the cache's blocks of 64.
            let workload =
                isSynthetic
                ? Workload(promptLength: 110, tokenCount: 40) : Workload(promptLength: 60, tokenCount: 24)
            for keyValueType in KeyValueType.allCases {
                for sessions in isSynthetic ? [1, 8] : [2] {
                    var options = EngineOptions()
                    options.maximumSessions = sessions
                    options.threads = Int(arguments[4])!
                    options.prefillChunk = 48
                    options.keyValueType = keyValueType
                    try await count(counter, try Engine(model: model, options: options), workload, sessions: sessions)
                }
            }
        default: fatalError("What to do, check or engine?")
        }
    }

    private static func count(
        _ counter: Counter, _ engine: Engine, _ workload: Workload, sessions: Int
    ) async throws {
        let watcher: @Sendable (ComputePhase) -> Void = { phase in
            switch phase {
            case .admission: counter.enter(0, false)
            case .step: counter.enter(Counter.Span.step.rawValue, true)
            case .delivery: counter.enter(Counter.Span.delivery.rawValue, false)
            }
        }
        await engine.watch(watcher)
        // Warm-up: a few steps of a single session.
        for task in Workload.Task.all {
            try await Workload(promptLength: 5, tokenCount: 3).run(task, engine, sessions: 1)
        }
        for task in Workload.Task.all {
            // When this returns, all that was done before has been counted.
            await engine.watch(watcher)
            counter.reset()
            try await workload.run(task, engine, sessions: sessions)
            await engine.watch(watcher)
            report(counter, "\(task.name), \(sessions) sessions, KV \(engine.keyValueType.rawValue)")
        }
    }

    private static func report(_ counter: Counter, _ name: String) {
        func counts(_ span: Counter.Span) -> JSON {
            .object(JSONObject(counter.counts(span).map { ($0.kind, .number($0.count)) }))
        }
        let line: JSON = [
            "name": .string(name), "entries": .number(counter.entries(.step)), "joined": .number(counter.joined),
            "references": .number(counter.references(.step)),
            "step": counts(.step), "delivery": counts(.delivery),
        ]
        print(line.serialized())
        counter.printStacks(.step)
    }
}
