import LatheFormat

extension MemoryPlan {
    /// One way to make the plan fit: options to change, and what the plan is then.
    public struct Suggestion: Sendable {
        /// One option each, as the command line takes it: `["--context", "512"]`.
        public let arguments: [String]
        public let totalByteCount: Int

        public var description: String { arguments.joined(separator: " ") }
    }

    /// What would make the plan fit: every single change that does, cheapest first; where none does, the smallest number of
    /// them together, in the same order.
    ///
    /// "Cheap" is by what is given up: cache precision and passes of a prompt cost little, sessions and context cost what a
    /// user asked for, weights in fewer bits cost quality and a conversion.
    public func suggestions() -> [Suggestion] {
        guard !fits, let budget else { return [] }
        let changes = self.changes(budget: budget)
        let single = changes.compactMap { try? Change.apply([$0], to: self) }.filter {
            $0.plan.totalByteCount <= budget
        }
        if !single.isEmpty { return single.map(\.suggestion) }
        // Together: each change in turn, those that are sized by the budget last.
        var together: [Change] = []
        for change in changes where !change.isSized {
            together.append(change)
            for sized in [nil] + changes.filter(\.isSized).map(Optional.some) {
                if let result = resized(together, sized, budget: budget) { return [result.suggestion] }
            }
        }
        return []
    }

    /// The most sessions that the budget holds with all else as it is; nil without a budget. 0: not even one.
    public var maximumSessions: Int? {
        guard let budget else { return nil }
        return Change.largest(1...EngineLayout.sessionLimit) {
            plan(sessions: $0).map { $0.totalByteCount <= budget } ?? false
        }
            ?? 0
    }

    private func plan(sessions: Int) -> MemoryPlan? {
        var options = options
        options.maximumSessions = sessions
        return try? MemoryPlan(outline: outline, options: options)
    }

    private func changes(budget: Int) -> [Change] {
        var changes: [Change] = []
        let stored = layout.keyValues.tokenBytes
        for type in KeyValueType.allCases
        where KeyValueLayout(type: type, configuration: layout.configuration).tokenBytes < stored {
            changes.append(.keyValueType(type))
        }
        if layout.prefillChunk > 64 { changes.append(.prefillChunk(64)) }
        if layout.sessions > 1, let fitting = maximumSessions, fitting >= 1 { changes.append(.sessions(fitting)) }
        if let context = largestContext(budget: budget) { changes.append(.context(context)) }
        for format in HypotheticalWeights.allCases
        where format.outline(outline).weightByteCount < outline.weightByteCount {
            changes.append(.weights(format))
        }
        return changes
    }

    /// A multiple of a cache block, since a part of one costs as much as the whole; at least a sixteenth of what was asked.
    private func largestContext(budget: Int) -> Int? {
        let block = KeyValueLayout.blockTokens
        guard layout.contextLength > block else { return nil }
        let least = max(1, layout.contextLength / 16 / block)
        return Change.largest(least...layout.contextLength / block) { blocks in
            var options = options
            options.contextLength = blocks * block
            return (try? MemoryPlan(outline: outline, options: options)).map { $0.totalByteCount <= budget } ?? false
        }.map { $0 * block }
    }

    /// With `changes`, and sessions or context then as large as fits.
    private func resized(_ changes: [Change], _ sized: Change?, budget: Int) -> Change.Result? {
        guard let result = try? Change.apply(changes, to: self) else { return nil }
        var all = changes
        switch sized {
        case nil: break
        case .sessions:
            guard let sessions = result.plan.maximumSessions, sessions >= 1 else { return nil }
            all.append(.sessions(min(sessions, layout.sessions)))
        default:
            guard let context = result.plan.largestContext(budget: budget) else { return nil }
            all.append(.context(context))
        }
        guard let final = try? Change.apply(all, to: self), final.plan.totalByteCount <= budget else { return nil }
        return final
    }
}

/// A change of one option.
private enum Change {
    case keyValueType(KeyValueType)
    case prefillChunk(Int)
    case sessions(Int)
    case context(Int)
    case weights(HypotheticalWeights)

    var isSized: Bool {
        switch self {
        case .sessions, .context: true
        default: false
        }
    }

    struct Result {
        let plan: MemoryPlan
        let suggestion: MemoryPlan.Suggestion
    }

    static func apply(_ changes: [Change], to plan: MemoryPlan) throws(LatheError) -> Result {
        var options = plan.options
        var outline = plan.outline
        var arguments: [String] = []
        for change in changes {
            switch change {
            case .keyValueType(let type):
                options.keyValueType = type
                arguments += ["--kv", type.rawValue]
            case .prefillChunk(let rows):
                options.prefillChunk = rows
                arguments += ["--prefill-chunk", "\(rows)"]
            case .sessions(let count):
                options.maximumSessions = count
                arguments += ["--sessions", "\(count)"]
            case .context(let tokens):
                options.contextLength = tokens
                arguments += ["--context", "\(tokens)"]
            case .weights(let format):
                outline = format.outline(outline)
                arguments += ["--weights", format.rawValue]
            }
        }
        let changed = try MemoryPlan(outline: outline, options: options)
        return Result(
            plan: changed, suggestion: .init(arguments: arguments, totalByteCount: changed.totalByteCount))
    }

    /// The largest number of `range` that is possible, where every smaller one is possible too.
    static func largest(_ range: ClosedRange<Int>, _ isPossible: (Int) -> Bool) -> Int? {
        guard !range.isEmpty, isPossible(range.lowerBound) else { return nil }
        var (low, high) = (range.lowerBound, range.upperBound)
        while low < high {
            let middle = low + (high - low + 1) / 2
            if isPossible(middle) { low = middle } else { high = middle - 1 }
        }
        return low
    }
}

/// "As if it had been converted so": a dense format for the linear layers; embedding and head in int8, or float32 with all
/// the rest.
package enum HypotheticalWeights: String, CaseIterable, Sendable {
    case f32, int8, int4

    package func outline(_ outline: ModelOutline) -> ModelOutline {
        var result = outline
        let head = outline.graph.entryPoint("decode")?.operations.last.flatMap { operation -> String? in
            if case .linear(let weight, _) = operation.kind { weight } else { nil }
        }
        let tables = outline.graph.entryPoints.flatMap(\.operations).compactMap { operation -> String? in
            if case .embed(let table, _) = operation.kind { table } else { nil }
        }
        for index in result.graph.parameters.indices where result.graph.parameters[index].encoding != .rows {
            let name = result.graph.parameters[index].name
            result.graph.parameters[index].encoding =
                switch self {
                case .f32: .panels
                case .int8: .qc8w
                case .int4 where name == head || tables.contains(name): .qc8w
                case .int4: .quantized(QuantizedPanels(groupSize: 64))
                }
        }
        return result
    }
}
