/// Holds back text that may turn out to be the beginning of a stop string.
struct StopMatcher {
    private let stops: [[UInt8]]
    private var held: [UInt8] = []

    init(_ stops: [String]) { self.stops = stops.map { Array($0.utf8) } }

    /// Takes more text and gives what is certain to belong to the continuation.
    ///
    /// - Returns: the text, and whether a stop string was met; it and what follows are dropped.
    mutating func append(_ text: String) -> (text: String, isStopped: Bool) {
        guard !stops.isEmpty else { return (text, false) }
        held.append(contentsOf: text.utf8)
        // The string that is complete first, of those complete at once the longest: so the cut does not depend on how
        // the text was cut into pieces.
        var met: Range<Int>?
        for stop in stops {
            guard let start = held.firstStart(of: stop) else { continue }
            let range = start..<start + stop.count
            guard let best = met else {
                met = range
                continue
            }
            if (range.upperBound, range.lowerBound) < (best.upperBound, best.lowerBound) { met = range }
        }
        if let met {
            let text = String(decoding: held[..<met.lowerBound], as: UTF8.self)
            held = []
            return (text, true)
        }
        let keep = longestPrefixAtEnd()
        let text = String(decoding: held[..<(held.count - keep)], as: UTF8.self)
        held.removeFirst(held.count - keep)
        return (text, false)
    }

    /// What was held back, when the continuation has ended otherwise.
    mutating func finish() -> String {
        defer { held = [] }
        return String(decoding: held, as: UTF8.self)
    }

    /// Length of the longest suffix of `held` that begins a stop string. Stop strings are whole characters, so the cut
    /// before such a suffix never splits one.
    private func longestPrefixAtEnd() -> Int {
        var longest = 0
        for stop in stops {
            for length in stride(from: min(stop.count - 1, held.count), to: longest, by: -1)
            where held.suffix(length).elementsEqual(stop.prefix(length)) {
                longest = length
                break
            }
        }
        return longest
    }
}

extension [UInt8] {
    fileprivate func firstStart(of pattern: [UInt8]) -> Int? {
        guard count >= pattern.count else { return nil }
        return (0...(count - pattern.count)).first { self[$0..<($0 + pattern.count)].elementsEqual(pattern) }
    }
}
