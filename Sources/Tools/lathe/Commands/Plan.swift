import ArgumentParser
import Lathe
import LatheCompiler
import LatheFormat
import LatheService
import LatheWorkbench

struct PlanCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Show what memory a model will take, from its header alone, and whether a budget holds it.",
        discussion: """
            Nothing is loaded. Without --memory-budget the limit under which this process lives counts, where it has one \
            (control group, resource limit). Where the plan does not fit, changes that would make it fit are computed and \
            printed, and the exit code is 2.

            With --serve it is the plan of `lathe serve`: its program and its connections count too, and without --sessions as \
            many sessions are taken as the budget holds. The total is the limit to give its container.
            """)

    @OptionGroup var model: ModelArguments
    @Option(
        help: ArgumentHelp(
            "Sessions that may exist at once, each of a whole context. (default: 1; with --serve, what fits)",
            valueName: "k"))
    var sessions: Int?
    @Flag(help: "Plan for `lathe serve`.")
    var serve = false
    @Option(
        help: ArgumentHelp(
            "With --serve: connections that may be open. (default: \(ServerMemory.standardConnections))", valueName: "n"
        ))
    var maxConnections: Int?
    @Option(
        help: ArgumentHelp(
            "With --serve: the longest body of a request. (default: \(Bytes.text(ServerMemory.standardMaximumBody)))",
            valueName: "1MB"))
    var maxBody: ByteCount?
    @Option(help: ArgumentHelp("What the whole process may take.", valueName: "700MB"))
    var memoryBudget: ByteCount?
    @Flag(help: "Print one JSON object.")
    var json = false

    func validate() throws {
        try model.requireOneThreadCount()
        if !serve, maxConnections != nil || maxBody != nil {
            throw ValidationError("--max-connections and --max-body are the server's; give --serve too.")
        }
        if let maxConnections, !(1...65536).contains(maxConnections) {
            throw ValidationError("--max-connections takes a number from 1 to 65536.")
        }
    }

    func run() async throws {
        let plan = try makePlan()
        if json { printJSON(plan) } else { printTable(plan) }
        try plan.requireFit()
    }

    private func makePlan() throws(LatheError) -> MemoryPlan {
        let outline = try model.outline()
        var options = model.engineOptions(budget: memoryBudget)
        options.maximumSessions = sessions ?? 1
        guard serve else { return try MemoryPlan(outline: outline, options: options) }
        options.runtimeBytes = ServerMemory.runtimeByteCount
        options.serverBytes = ServerMemory.byteCount(
            connections: maxConnections ?? ServerMemory.standardConnections,
            maximumBody: maxBody?.bytes ?? ServerMemory.standardMaximumBody)
        // What was asked for is shown, whether it fits or not; so is the least that there can be.
        guard sessions == nil else { return try MemoryPlan(outline: outline, options: options) }
        var settings = ServiceSettings(modelName: model.model)
        settings.engine = options
        let fitting = try? ServicePlan.fitting(settings) { options throws(LatheError) in
            try MemoryPlan(outline: outline, options: options)
        }
        if let fitting { return fitting }
        return try MemoryPlan(outline: outline, options: options)
    }

    /// What a person would type for `suggestion`.
    private func arguments(_ suggestion: MemoryPlan.Suggestion) -> [String] {
        var options: [(String, String?)] = [
            ("--memory-budget", memoryBudget.map { "\($0.bytes)" }), ("--context", model.context.map { "\($0)" }),
            ("--sessions", sessions.map { "\($0)" }), ("--kv", model.kv?.rawValue),
            ("--weights", model.weights?.rawValue), ("--threads", model.threads.map { "\($0.first)" }),
            ("--prefill-chunk", model.prefillChunk == 256 ? nil : "\(model.prefillChunk)"),
            ("--weights-in", model.weightsIn?.rawValue), ("--numa", model.numa?.rawValue),
            ("--max-connections", maxConnections.map { "\($0)" }), ("--max-body", maxBody.map { "\($0.bytes)" }),
        ]
        let changes = stride(from: 0, to: suggestion.arguments.count, by: 2).map {
            (suggestion.arguments[$0], suggestion.arguments[$0 + 1])
        }
        for (name, value) in changes { options[options.firstIndex { $0.0 == name }!].1 = value }
        return ["plan", "--model", model.model] + (serve ? ["--serve"] : [])
            + options.flatMap { name, value in value.map { [name, $0] } ?? [] }
    }

    private func printJSON(_ plan: MemoryPlan) {
        StandardOutput.print([
            "fits": .bool(plan.fits),
            "budget_bytes": plan.budget.map(JSON.number) ?? .null,
            "budget_source": plan.budgetSource.map(JSON.string) ?? .null,
            "total_bytes": .number(plan.totalByteCount),
            "categories": .object(
                JSONObject(MemoryCategory.allCases.map { ($0.rawValue, JSON.number(plan.byteCount($0))) })),
            "context": .number(plan.contextLength),
            "sessions": .number(plan.sessions),
            "kv_tokens": .number(plan.keyValueTokens),
            "maximum_sessions": plan.maximumSessions.map(JSON.number) ?? .null,
            "suggestions": .array(
                plan.suggestions().map { suggestion in
                    [
                        "arguments": .array(arguments(suggestion).map(JSON.string)),
                        "total_bytes": .number(suggestion.totalByteCount),
                    ]
                }),
        ])
    }

    private func printTable(_ plan: MemoryPlan) {
        var table = TextTable(["category", "bytes", "", ""], rightAligned: [1, 2])
        for category in MemoryCategory.allCases {
            let bytes = plan.byteCount(category)
            table.add([category.title, "\(bytes)", Bytes.text(bytes), plan.explanation(of: category)])
        }
        let total = plan.totalByteCount
        table.add(["total", "\(total)", Bytes.text(total), ""])
        if let budget = plan.budget {
            table.add(["budget", "\(budget)", Bytes.text(budget), plan.budgetSource ?? ""])
            let left = budget - total
            table.add([
                left < 0 ? "missing" : "headroom", "\(abs(left))", Bytes.text(abs(left)),
                left < 0
                    ? "" : plan.maximumSessions.map { "at most \($0) session\($0 == 1 ? "" : "s") like this" } ?? "",
            ])
        }
        StandardOutput.write(table.text)
        if serve { StandardOutput.print("The limit to give the server's container: \(total) bytes, or more.") }
        guard !plan.fits else { return }
        let suggestions = plan.suggestions()
        StandardOutput.print(suggestions.isEmpty ? "No change of options makes it fit." : "It would fit with:")
        for suggestion in suggestions {
            StandardOutput.print(
                "  lathe \(arguments(suggestion).joined(separator: " "))  (\(Bytes.text(suggestion.totalByteCount)))"
                    + (suggestion.arguments.contains("--weights") ? ", converted again so" : ""))
        }
    }
}

extension MemoryCategory {
    /// For people.
    var title: String {
        switch self {
        case .weights: "weights"
        case .keyValueCache: "KV cache"
        case .activations: "activations"
        case .tokenizer: "tokenizer"
        case .windows: "file windows"
        case .server: "server buffers"
        case .runtime: "process itself"
        }
    }
}

extension MemoryPlan {
    /// What a category's bytes consist of.
    fileprivate func explanation(of category: MemoryCategory) -> String {
        switch category {
        case .weights: nodes.nodes.isEmpty ? "" : "a copy on \(nodes), made beside the file's largest matrix"
        case .keyValueCache:
            sessions * contextLength > keyValueTokens
                ? "\(keyValueTokens) tokens in \(keyValueType.rawValue), which \(sessions) sessions share"
                : "\(sessions) session\(sessions == 1 ? "" : "s") of \(contextLength) tokens in \(keyValueType.rawValue)"
        case .server: byteCount(.server) > 0 ? "connections, and bodies of requests on their way" : ""
        case .runtime: "language runtime and libraries, measured once for this program"
        default: ""
        }
    }
}
