package import CoreMetrics
import Lathe
import LatheFormat

/// What the service counts. Names are vLLM's, with `lathe_` for `vllm:`, where the meaning is the same.
package struct ServiceMetrics: Sendable {
    private let promptTokens: Counter
    private let generationTokens: Counter
    /// From a call's arrival to its first token, the queue included.
    private let timeToFirstToken: Recorder
    private let interTokenLatency: Recorder
    private let queueTime: Recorder
    /// From a call's arrival to its end.
    private let latency: Recorder
    private let finishedByReason: [FinishReason: Counter]
    private let running: Gauge
    private let waiting: Gauge
    private let cacheUse: Gauge
    private let residentBytes: Gauge
    private let peakResidentBytes: Gauge
    private let budgetBytes: Gauge
    private let plannedBytes: [MemoryCategory: Gauge]
    private let usedBytes: [MemoryCategory: Gauge]

    package init(factory: any MetricsFactory) {
        func recorder(_ name: String) -> Recorder {
            Recorder(label: name, dimensions: [], aggregate: true, factory: factory)
        }
        func gauge(_ name: String, _ dimensions: [(String, String)] = []) -> Gauge {
            Gauge(label: name, dimensions: dimensions, factory: factory)
        }
        promptTokens = Counter(label: "lathe_prompt_tokens_total", dimensions: [], factory: factory)
        generationTokens = Counter(label: "lathe_generation_tokens_total", dimensions: [], factory: factory)
        timeToFirstToken = recorder("lathe_time_to_first_token_seconds")
        interTokenLatency = recorder("lathe_inter_token_latency_seconds")
        queueTime = recorder("lathe_request_queue_time_seconds")
        latency = recorder("lathe_e2e_request_latency_seconds")
        var finished: [FinishReason: Counter] = [:]
        for reason in [FinishReason.length, .stop, .endOfText] {
            finished[reason] = Counter(
                label: "lathe_request_success_total", dimensions: [("finished_reason", reason.rawValue)],
                factory: factory)
        }
        finishedByReason = finished
        running = gauge("lathe_num_requests_running")
        waiting = gauge("lathe_num_requests_waiting")
        cacheUse = gauge("lathe_kv_cache_usage_perc")
        residentBytes = gauge("lathe_memory_resident_bytes")
        peakResidentBytes = gauge("lathe_memory_peak_resident_bytes")
        budgetBytes = gauge("lathe_memory_budget_bytes")
        var planned: [MemoryCategory: Gauge] = [:]
        var used: [MemoryCategory: Gauge] = [:]
        for category in MemoryCategory.allCases {
            planned[category] = gauge("lathe_memory_planned_bytes", [("category", category.rawValue)])
            used[category] = gauge("lathe_memory_used_bytes", [("category", category.rawValue)])
        }
        (plannedBytes, usedBytes) = (planned, used)
    }

    /// What each name means, for whoever shows them.
    package static let descriptions: [String: String] = [
        "lathe_prompt_tokens_total": "Tokens of prompts that were read.",
        "lathe_generation_tokens_total": "Tokens that were generated.",
        "lathe_time_to_first_token_seconds": "From a sequence's arrival to its first token, waiting included.",
        "lathe_inter_token_latency_seconds": "From one token of a sequence to the next.",
        "lathe_request_queue_time_seconds": "From a sequence's arrival to its session.",
        "lathe_e2e_request_latency_seconds": "From a call's arrival to its last token.",
        "lathe_request_success_total": "Sequences that ended by themselves, by why.",
        "lathe_num_requests_running": "Sequences that have a session.",
        "lathe_num_requests_waiting": "Sequences that wait for one.",
        "lathe_kv_cache_usage_perc": "Of the cache, the part that running sequences may fill; 1 is all.",
        "lathe_memory_resident_bytes": "Resident memory of the process.",
        "lathe_memory_peak_resident_bytes": "The most that ever was resident.",
        "lathe_memory_budget_bytes": "What the process may take; 0 where nothing limits it.",
        "lathe_memory_planned_bytes": "What the plan holds, by category.",
        "lathe_memory_used_bytes": "What the engine has taken of it, by category.",
    ]

    func admitted(after wait: Duration, promptTokens count: Int) {
        queueTime.record(wait.seconds)
        promptTokens.increment(by: count)
    }

    func firstToken(after time: Duration) {
        timeToFirstToken.record(time.seconds)
        generationTokens.increment()
    }

    func nextToken(after time: Duration) {
        interTokenLatency.record(time.seconds)
        generationTokens.increment()
    }

    func ended(after time: Duration) { latency.record(time.seconds) }

    func finished(_ reason: FinishReason) { finishedByReason[reason]?.increment() }

    /// Sets what is asked for rather than counted.
    func refresh(_ state: ServiceState) {
        running.record(state.running)
        waiting.record(state.waiting)
        cacheUse.record(state.keyValueShare)
        residentBytes.record(state.residentBytes ?? 0)
        peakResidentBytes.record(state.peakResidentBytes ?? 0)
        if let budget = state.budget { budgetBytes.record(budget) }
        for use in state.categories {
            plannedBytes[use.category]?.record(use.plannedBytes)
            usedBytes[use.category]?.record(use.currentBytes)
        }
    }
}
