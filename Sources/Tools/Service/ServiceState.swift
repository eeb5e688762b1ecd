import Lathe
import LatheFormat

/// The plan and the truth, at one moment.
struct ServiceState: Sendable {
    var running: Int
    var waiting: Int
    var sessions: Int
    var keyValueTokens: (total: Int, promised: Int)
    var budget: Int?
    var plannedBytes: Int
    var residentBytes: Int?
    var peakResidentBytes: Int?
    var categories: [MemoryUse]

    /// Of the cache that running sequences have been promised, 0…1.
    var keyValueShare: Double { Double(keyValueTokens.promised) / Double(keyValueTokens.total) }

    var json: JSON {
        func optional(_ value: Int?) -> JSON { value.map { .number($0) } ?? .null }
        let categories = categories.map { use in
            let value: JSON = [
                "planned_bytes": .number(use.plannedBytes), "current_bytes": .number(use.currentBytes),
                "peak_bytes": .number(use.peakBytes),
            ]
            return (use.category.rawValue, value)
        }
        return [
            "budget_bytes": optional(budget), "planned_bytes": .number(plannedBytes),
            "resident_bytes": optional(residentBytes), "peak_resident_bytes": optional(peakResidentBytes),
            "categories": .object(JSONObject(categories)),
            "sessions": ["total": .number(sessions), "running": .number(running), "waiting": .number(waiting)],
            "kv_cache": [
                "tokens": .number(keyValueTokens.total), "promised_tokens": .number(keyValueTokens.promised),
            ],
        ]
    }
}
