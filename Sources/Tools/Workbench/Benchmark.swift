public import Lathe
import LatheFormat

/// Measures an engine: whole tokens, from prompt to sampled id, with the read probe right before and after each phase.
///
/// An absolute tokens/s says little on a shared machine; its ratio to what the same threads can read at that moment says
/// how close decoding is to the machine.
public struct Benchmark: Sendable {
    public var promptTokens = 512
    public var newTokens = 128
    public var batch = 1
    public var runs = 5
    /// Of the random prompts.
    public var seed: UInt64 = 1

    public init() {}

    // Far beyond what tells anything, and small enough that no product of theirs overflows.
    private static let maximumBatch = 1024
    private static let maximumRuns = 1_000_000

    public struct Statistics: Sendable {
        public let median: Double
        public let minimum: Double
        public let maximum: Double

        init(_ values: [Double]) {
            let sorted = values.sorted()
            let middle = sorted.count / 2
            median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
            minimum = sorted[0]
            maximum = sorted[sorted.count - 1]
        }
    }

    public struct Result: Sendable {
        public enum Phase: String, Sendable { case prefill, decode }
        public let phase: Phase
        public let threads: Int
        public let batch: Int
        /// Tokens of each run, over the batch.
        public let tokens: Int
        /// Summed over the batch.
        public let tokensPerSecond: Statistics
        /// Weights that a step reads, and keys and values at the mean position, divided by the batch.
        public let bytesPerToken: Double
        public let probeBytesPerSecond: Double
        /// Share of the probe that decoding reached; nil for prefill.
        public let ratioToProbe: Double?
        /// Multiplications and additions of the linear layers.
        public let operationsPerSecond: Double
        /// Seconds from request to first token; prefill only.
        public let timeToFirstToken: Statistics?
        /// Pages that the process waited for the disk for in all counted runs; nil where the system does not say. A model
        /// that does not stay in memory shows here.
        public let majorPageFaults: Int?
    }

    private struct Run {
        var prefillSeconds: Double
        var decodeSeconds: Double
        var prefillProbe: Double
        var decodeProbe: Double
    }

    /// Runs the phases on a fresh engine with `threads` threads.
    public func measure(
        model: Model, options: EngineOptions, threads: Int, progress: (Int) -> Void = { _ in }
    ) async throws -> [Result] {
        let context = options.contextLength ?? model.configuration.contextLength
        guard promptTokens >= 1, newTokens >= 2, batch >= 1, runs >= 1 else {
            throw LatheError(.invalidRequest, "A benchmark needs a prompt, 2 new tokens, a batch and a run at least.")
        }
        guard batch <= Self.maximumBatch, runs <= Self.maximumRuns else {
            throw LatheError(
                .invalidRequest,
                "A batch of \(batch) and \(runs) runs were asked; at most \(Self.maximumBatch) and \(Self.maximumRuns) "
                    + "are possible.")
        }
        guard promptTokens <= context, newTokens <= context - promptTokens else {
            throw LatheError(
                .invalidRequest,
                "\(promptTokens) prompt tokens and \(newTokens) new ones do not fit the context of \(context).")
        }
        var options = options
        options.threads = threads
        options.maximumSessions = batch
        let engine = try Engine(model: model, options: options)
        var random = SplitMix64(seed: seed)
        // One run more than is counted: it takes the page faults.
        var measured: [Run] = []
        var faultsBefore: Int?
        for index in 0...runs {
            progress(index)
            let run = try await measureOnce(engine, random: &random) { phase in
                if index > 0 { PhaseMarks.mark(phase) } else if phase == "prefill" { PhaseMarks.mark("warm-up") }
            }
            if index > 0 { measured.append(run) } else { faultsBefore = ProcessMemory.majorPageFaults() }
        }
        PhaseMarks.mark("idle")
        let faults = ProcessMemory.majorPageFaults().flatMap { after in faultsBefore.map { after - $0 } }
        await MemoryReporting.tell(engine)
        return results(engine, measured, majorPageFaults: faults)
    }

    private func measureOnce(
        _ engine: Engine, random: inout SplitMix64, entering: (_ phase: String) -> Void
    ) async throws -> Run {
        let vocabulary = UInt64(engine.model.configuration.vocabularySize)
        let prompts = (0..<batch).map { _ in (0..<promptTokens).map { _ in Int32(random.next() % vocabulary) } }
        var sessions: [Session] = []
        for _ in prompts { sessions.append(try engine.makeSession()) }
        var options = GenerationOptions()
        options.ignoresEndOfText = true
        let clock = ContinuousClock()

        var probes = [await engine.readBandwidth()]
        options.maximumTokens = 1
        entering("prefill")
        var start = clock.now
        var streams: [AsyncThrowingStream<GeneratedToken, any Error>] = []
        for (session, prompt) in zip(sessions, prompts) {
            streams.append(try session.generate(prompt, options: options))
        }
        for stream in streams { for try await _ in stream {} }
        let prefill = (clock.now - start).seconds

        probes.append(await engine.readBandwidth())
        options.maximumTokens = newTokens - 1
        entering("decode")
        start = clock.now
        // The prompt is empty: each session goes on from the token that it sampled last.
        streams = []
        for session in sessions { streams.append(try session.generate([], options: options)) }
        for stream in streams { for try await _ in stream {} }
        let decode = (clock.now - start).seconds
        probes.append(await engine.readBandwidth())
        return Run(
            prefillSeconds: prefill, decodeSeconds: decode, prefillProbe: (probes[0] + probes[1]) / 2,
            decodeProbe: (probes[1] + probes[2]) / 2)
    }

    private func results(_ engine: Engine, _ runs: [Run], majorPageFaults: Int?) -> [Result] {
        let weights = engine.model.file.graph.entryPoint("decode")!.operations.reduce(0) { sum, operation in
            guard case .linear(let weight, _) = operation.kind else { return sum }
            return sum + (engine.model.file.graph.parameter(weight)?.shape.reduce(1, *) ?? 0)
        }
        let operationsPerToken = 2 * Double(weights)
        let prefillTokens = batch * promptTokens
        let decodeTokens = batch * (newTokens - 1)
        let prefill = Statistics(runs.map { Double(prefillTokens) / $0.prefillSeconds })
        let decode = Statistics(runs.map { Double(decodeTokens) / $0.decodeSeconds })
        let meanPosition = Double(promptTokens) + Double(newTokens - 2) / 2
        func bytes(position: Double) -> Double {
            Double(engine.stepWeightBytes) / Double(batch) + engine.keyValueBytes(position: position)
        }
        let decodeProbe = Statistics(runs.map(\.decodeProbe)).median
        return [
            Result(
                phase: .prefill, threads: engine.threads.count, batch: batch, tokens: prefillTokens,
                tokensPerSecond: prefill, bytesPerToken: bytes(position: Double(promptTokens - 1) / 2),
                probeBytesPerSecond: Statistics(runs.map(\.prefillProbe)).median, ratioToProbe: nil,
                operationsPerSecond: prefill.median * operationsPerToken,
                timeToFirstToken: Statistics(runs.map(\.prefillSeconds)), majorPageFaults: majorPageFaults),
            Result(
                phase: .decode, threads: engine.threads.count, batch: batch, tokens: decodeTokens,
                tokensPerSecond: decode, bytesPerToken: bytes(position: meanPosition),
                probeBytesPerSecond: decodeProbe,
                ratioToProbe: decode.median * bytes(position: meanPosition) / decodeProbe,
                operationsPerSecond: decode.median * operationsPerToken, timeToFirstToken: nil,
                majorPageFaults: majorPageFaults),
        ]
    }
}
