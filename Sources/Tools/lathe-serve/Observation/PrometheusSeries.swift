import CoreMetrics
import Synchronization

/// A number that many threads add to; whole steps and broken ones.
struct AtomicSum: ~Copyable, Sendable {
    private let bits: Atomic<UInt64>

    init(_ value: Double = 0) { bits = Atomic(value.bitPattern) }

    var value: Double { Double(bitPattern: bits.load(ordering: .relaxed)) }

    func set(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }

    func add(_ amount: Double) {
        var old = bits.load(ordering: .relaxed)
        while true {
            let new = (Double(bitPattern: old) + amount).bitPattern
            let (isDone, current) = bits.weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
            if isDone { return }
            old = current
        }
    }
}

/// What only grows.
final class Counter: Series, CounterHandler, FloatingPointCounterHandler {
    private let sum = AtomicSum()

    func increment(by amount: Int64) { if amount > 0 { sum.add(Double(amount)) } }
    func increment(by amount: Double) { if amount > 0 { sum.add(amount) } }
    func reset() { sum.set(0) }

    func write(_ name: String, _ labels: String, to text: inout String) {
        text += "\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(PrometheusRegistry.number(sum.value))\n"
    }
}

/// What is as it was set last.
final class Gauge: Series, MeterHandler, RecorderHandler {
    private let sum = AtomicSum()

    func set(_ value: Int64) { sum.set(Double(value)) }
    func set(_ value: Double) { sum.set(value) }
    func increment(by amount: Double) { sum.add(amount) }
    func decrement(by amount: Double) { sum.add(-amount) }
    func record(_ value: Int64) { sum.set(Double(value)) }
    func record(_ value: Double) { sum.set(value) }

    func write(_ name: String, _ labels: String, to text: inout String) {
        text += "\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(PrometheusRegistry.number(sum.value))\n"
    }
}

/// How often what was recorded was at most each of its bounds.
final class Histogram: Series, RecorderHandler, TimerHandler {
    private struct Counts {
        var buckets: [UInt64]
        var sum = 0.0
    }
    private let bounds: [Double]
    /// One lock for all of it, so that a count and a sum that are read together belong together.
    private let counts: Mutex<Counts>

    init(bounds: [Double]) {
        precondition(zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }, "bounds ascend")
        self.bounds = bounds
        counts = Mutex(Counts(buckets: [UInt64](repeating: 0, count: bounds.count + 1)))
    }

    func record(_ value: Int64) { record(Double(value)) }

    func record(_ value: Double) {
        guard !value.isNaN else { return }
        var low = 0
        var high = bounds.count
        while low < high {
            let middle = (low + high) / 2
            if value <= bounds[middle] { high = middle } else { low = middle + 1 }
        }
        counts.withLock { counts in
            counts.buckets[low] += 1
            counts.sum += value
        }
    }

    /// A timer of swift-metrics: Prometheus counts seconds.
    func recordNanoseconds(_ duration: Int64) { record(Double(duration) * 1e-9) }

    func write(_ name: String, _ labels: String, to text: inout String) {
        let counts = counts.withLock { $0 }
        let before = labels.isEmpty ? "" : labels + ","
        let own = labels.isEmpty ? "" : "{\(labels)}"
        var total: UInt64 = 0
        for (bucket, count) in counts.buckets.enumerated() {
            total += count
            let bound = bucket < bounds.count ? PrometheusRegistry.number(bounds[bucket]) : "+Inf"
            text += "\(name)_bucket{\(before)le=\"\(bound)\"} \(total)\n"
        }
        text += "\(name)_sum\(own) \(PrometheusRegistry.number(counts.sum))\n\(name)_count\(own) \(total)\n"
    }
}

// MARK: - As the backend of swift-metrics

extension PrometheusRegistry: MetricsFactory {
    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler { counter(label, dimensions) }

    func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler { counter(label, dimensions) }

    func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler { gauge(label, dimensions) }

    func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        if aggregate { return histogram(label, dimensions) }
        return gauge(label, dimensions)
    }

    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler { histogram(label, dimensions) }

    // A series stays: Prometheus takes one that vanishes for a restart.
    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    func destroyMeter(_ handler: any MeterHandler) {}
    func destroyRecorder(_ handler: any RecorderHandler) {}
    func destroyTimer(_ handler: any TimerHandler) {}
}
