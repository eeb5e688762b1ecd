import ArgumentParser
import Lathe
import LatheCompiler
import LatheFormat
import LatheWorkbench

struct PlanCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Show what memory a model will take, from its header alone, and whether a budget holds it.",
        discussion: """
            Nothing is loaded. Without --memory-budget the limit under which this process lives counts, where it has one \
            (control group, resource limit). Where the plan does not fit, changes that would make it fit are computed and \
            printed, and the exit code is 2.
            """)

    @OptionGroup var model: ModelArguments
    @Option(help: ArgumentHelp("Sessions that may exist at once, each of a whole context.", valueName: "k"))
    var sessions: Int = 1
    @Option(help: ArgumentHelp("What the whole process may take.", valueName: "700MB"))
    var memoryBudget: ByteCount?
    @Flag(help: "Print one JSON object.")
    var json = false

    func validate() throws { try model.requireOneThreadCount() }

    func run() async throws {
        var options = model.engineOptions(budget: memoryBudget)
        options.maximumSessions = sessions
        let plan = try MemoryPlan(outline: try model.outline(), options: options)
        if json { printJSON(plan) } else { printTable(plan) }
        try plan.requireFit()
    }

    /// What a person would type for `suggestion`.
    private func arguments(_ suggestion: MemoryPlan.Suggestion) -> [String] {
        var options: [(String, String?)] = [
            ("--memory-budget", memoryBudget.map { "\($0.bytes)" }), ("--context", model.context.map { "\($0)" }),
            ("--sessions", sessions == 1 ? nil : "\(sessions)"), ("--kv", model.kv?.rawValue),
            ("--weights", model.weights?.rawValue), ("--threads", model.threads.map { "\($0.first)" }),
            ("--prefill-chunk", model.prefillChunk == 256 ? nil : "\(model.prefillChunk)"),
            ("--weights-in", model.weightsIn?.rawValue), ("--numa", model.numa?.rawValue),
        ]
        let changes = stride(from: 0, to: suggestion.arguments.count, by: 2).map {
            (suggestion.arguments[$0], suggestion.arguments[$0 + 1])
        }
        for (name, value) in changes { options[options.firstIndex { $0.0 == name }!].1 = value }
        return ["plan", "--model", model.model] + options.flatMap { name, value in value.map { [name, $0] } ?? [] }
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
            "\(sessions) session\(sessions == 1 ? "" : "s") of \(contextLength) tokens in \(keyValueType.rawValue)"
        case .runtime: "language runtime and libraries, measured once for this program"
        default: ""
        }
    }
}
