package import Lathe
package import LatheFormat

/// How many sessions, and how many tokens they share, a budget holds.
package enum ServicePlan {
    /// Sessions that `nil` asks for: beyond this, a batch of GPT-2 small gains nothing on two cores (docs/performance.md).
    package static let automaticSessions = 16

    /// The largest plan that fits: all sessions asked for with a whole context each, else the same sessions with fewer tokens in
    /// all, down to one context; where sessions are ours to choose, never more than have a quarter of a context each.
    ///
    /// - Parameter make: plans for a model; it takes a file's header or an open model.
    /// - Throws: `budget`, with what would make it fit, where not one context fits.
    package static func fitting(
        _ settings: ServiceSettings, _ make: (EngineOptions) throws(LatheError) -> MemoryPlan
    ) throws(LatheError) -> MemoryPlan {
        func plan(sessions: Int, tokens: Int?) throws(LatheError) -> MemoryPlan {
            var options = settings.engine
            options.maximumSessions = sessions
            options.keyValueTokens = tokens
            return try make(options)
        }
        var sessions = settings.sessions ?? automaticSessions
        let whole = try plan(sessions: sessions, tokens: nil)
        if whole.fits { return whole }
        let context = whole.contextLength
        let least = try plan(sessions: 1, tokens: context)
        try least.requireFit()
        while true {
            let smallest = max(context, settings.sessions == nil ? sessions * (context / 4) : 0)
            if let best = try largest(
                smallest, sessions * context,
                { tokens throws(LatheError) in
                    try plan(sessions: sessions, tokens: tokens)
                })
            {
                return best
            }
            guard sessions > 1 else { return least }
            sessions = settings.sessions == nil ? sessions / 2 : sessions - 1
        }
    }

    /// The plan of the most tokens from `least` to `most` that fits; nil where `least` does not.
    private static func largest(
        _ least: Int, _ most: Int, _ plan: (Int) throws(LatheError) -> MemoryPlan
    ) throws(LatheError) -> MemoryPlan? {
        var best = try plan(least)
        guard best.fits else { return nil }
        var (low, high) = (least, most)
        while high - low > KeyValueLayout.blockTokens {
            let middle = low + (high - low) / 2
            let candidate = try plan(middle)
            if candidate.fits { (low, best) = (middle, candidate) } else { high = middle }
        }
        return best
    }
}
