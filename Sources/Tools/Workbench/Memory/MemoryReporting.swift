package import Lathe
package import LatheCompiler
package import LatheFormat

extension MemoryPlan {
    /// `{"categories": {"weights": bytes, …}, "total_bytes": bytes}`.
    package var json: JSON { memoryJSON(byteCount) }
}

/// Tells a profiler what memory was planned and what each category really had.
package enum MemoryReporting {
    package static func tell(_ engine: Engine) async {
        guard PhaseMarks.isConnected else { return }
        PhaseMarks.plan(engine.plan.json)
        // Of the cache, what was ever written: the rest is address space.
        let written = await engine.writtenKeyValueBytes()
        tellMeasured { $0 == .keyValueCache ? written : engine.peakByteCount($0) }
    }

    package static func tell(_ conversion: ConversionMemory) {
        guard PhaseMarks.isConnected else { return }
        PhaseMarks.plan(
            memoryJSON {
                switch $0 {
                case .tokenizer: conversion.tokenizer
                case .windows: conversion.windows
                case .runtime: conversion.runtime
                default: 0
                }
            })
        tellMeasured { $0 == .windows ? conversion.windowsTaken : 0 }
    }

    /// What the account does not have is the process's own.
    private static func tellMeasured(_ taken: (MemoryCategory) -> Int) {
        let accounted = MemoryCategory.allCases.reduce(0) { $0 + taken($1) }
        let rest = max(0, (ProcessMemory.peakResidentBytes() ?? accounted) - accounted)
        PhaseMarks.measured(memoryJSON { $0 == .runtime ? rest : taken($0) })
    }
}

private func memoryJSON(_ byteCount: (MemoryCategory) -> Int) -> JSON {
    let categories = MemoryCategory.allCases.map { ($0.rawValue, JSON.number(byteCount($0))) }
    return [
        "categories": .object(JSONObject(categories)),
        "total_bytes": .number(MemoryCategory.allCases.reduce(0) { $0 + byteCount($1) }),
    ]
}
