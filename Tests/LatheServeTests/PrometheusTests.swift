import CoreMetrics
import Testing

@testable import LatheServe

@Suite struct PrometheusTests {
    private func text(_ registry: PrometheusRegistry) -> String {
        String(decoding: registry.exposition(), as: UTF8.self)
    }

    @Test func writesExactlyThis() {
        let registry = PrometheusRegistry(
            descriptions: ["a_total": "What \\ is\ncounted", "unused": "never seen"]
        ) { _ in [0.5, 1, 2.5] }
        registry.counter("a_total", [("route", "/x"), ("kind", "a\"b\\c\nd")]).increment(by: Int64(3))
        registry.counter("a_total", [("kind", "z"), ("route", "/x")]).increment(by: 0.5)
        registry.gauge("b_bytes").set(Int64(700_000_000))
        registry.gauge("b.bytes-x").set(-0.25)
        let histogram = registry.histogram("c_seconds", [("route", "/x")])
        for value in [0.5, 0.75, 2.5, 3, .nan] { histogram.record(value) }
        histogram.recordNanoseconds(1_500_000_000)
        registry.histogram("d_tokens").record(Int64(2))
        #expect(
            text(registry) == """
                # HELP a_total What \\\\ is\\ncounted
                # TYPE a_total counter
                a_total{kind="a\\"b\\\\c\\nd",route="/x"} 3
                a_total{kind="z",route="/x"} 0.5
                # TYPE b_bytes gauge
                b_bytes 700000000
                # TYPE b_bytes_x gauge
                b_bytes_x -0.25
                # TYPE c_seconds histogram
                c_seconds_bucket{route="/x",le="0.5"} 1
                c_seconds_bucket{route="/x",le="1"} 2
                c_seconds_bucket{route="/x",le="2.5"} 4
                c_seconds_bucket{route="/x",le="+Inf"} 5
                c_seconds_sum{route="/x"} 8.25
                c_seconds_count{route="/x"} 5
                # TYPE d_tokens histogram
                d_tokens_bucket{le="0.5"} 0
                d_tokens_bucket{le="1"} 0
                d_tokens_bucket{le="2.5"} 1
                d_tokens_bucket{le="+Inf"} 1
                d_tokens_sum 2
                d_tokens_count 1

                """)
    }

    @Test func numbersAreWrittenAsPrometheusReadsThem() {
        #expect(PrometheusRegistry.number(.infinity) == "+Inf")
        #expect(PrometheusRegistry.number(-.infinity) == "-Inf")
        #expect(PrometheusRegistry.number(.nan) == "NaN")
        #expect(PrometheusRegistry.number(0.1 + 0.2) == "0.30000000000000004")
        #expect(PrometheusRegistry.number(1e300) == "1e+300")
        #expect(PrometheusRegistry.number(123_456_789_012) == "123456789012")
        #expect(PrometheusRegistry.name("9é-x") == "____x")
        #expect(PrometheusRegistry.name("") == "_")
    }

    @Test func servesSwiftMetrics() {
        let registry = PrometheusRegistry()
        let counter = CoreMetrics.Counter(label: "n_total", dimensions: [("a", "b")], factory: registry)
        counter.increment(by: 2)
        CoreMetrics.Counter(label: "n_total", dimensions: [("a", "b")], factory: registry).increment()
        CoreMetrics.Gauge(label: "g", factory: registry).record(4)
        CoreMetrics.Meter(label: "m", factory: registry).set(5)
        CoreMetrics.Timer(label: "t_seconds", factory: registry).recordNanoseconds(2_000_000)
        CoreMetrics.Recorder(label: "r", factory: registry).record(3)
        CoreMetrics.FloatingPointCounter(label: "f_total", factory: registry).increment(by: 1.5)
        let text = text(registry)
        for line in [
            "n_total{a=\"b\"} 3\n", "g 4\n", "m 5\n", "t_seconds_bucket{le=\"0.001\"} 0\n",
            "t_seconds_bucket{le=\"0.0025\"} 1\n", "t_seconds_sum 0.002\n", "r_bucket{le=\"4\"} 1\n", "f_total 1.5\n",
        ] { #expect(text.contains(line), "\(line)") }
    }

    @Test func addsFromManyThreads() async {
        let registry = PrometheusRegistry()
        await withTaskGroup(of: Void.self) { tasks in
            for _ in 0..<8 {
                tasks.addTask {
                    let counter = registry.counter("n_total")
                    let histogram = registry.histogram("h_seconds")
                    for _ in 0..<10_000 {
                        counter.increment(by: Int64(1))
                        histogram.record(0.5)
                    }
                }
            }
        }
        #expect(text(registry).contains("n_total 80000\n"))
        #expect(text(registry).contains("h_seconds_sum 40000\nh_seconds_count 80000\n"))
    }
}
