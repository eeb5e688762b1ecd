import LatheFormat

/// A progress bar that says how long the rest will take.
struct TimedProgress {
    private let label: String
    private let start = ContinuousClock.now

    init(_ label: String) { self.label = label }

    /// The rest is estimated from what has been done, once there is enough of it to tell.
    func show(_ fraction: Double) {
        let elapsed = (ContinuousClock.now - start).seconds
        let left = elapsed > 1 && fraction > 0 ? ", \(Self.text(elapsed / fraction * (1 - fraction))) left" : ""
        ProgressBar.show(fraction: fraction, label: label + left)
    }

    /// `45 s`, `3 min 20 s`, `2 h 5 min`.
    static func text(_ seconds: Double) -> String {
        let whole = Int(min(seconds, 1e9).rounded(.up))
        if whole < 60 { return "\(whole) s" }
        if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
        return "\(whole / 3600) h \(whole % 3600 / 60) min"
    }
}
