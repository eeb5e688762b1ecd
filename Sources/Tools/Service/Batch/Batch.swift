import CoreMetrics
package import Lathe
package import LatheFormat

/// Answers every line of one file in another, without a server: OpenAI's batch format.
///
/// Of `input`, each line that is not blank is `{"custom_id", "method": "POST", "url", "body"}`; of `output`, each line is
/// `{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}`, in the order of the input. A line that
/// is no call (`error` then says why) and a call that the service refuses are answered like the others: nothing in the
/// input ends the run.
///
/// The output depends on the input, the model, the options and the seed, and on nothing else: no time stands in it, ids are
/// made of the lines, and where a body names no seed, the custom id gives one. So a run that was ended in any way, and
/// begun again, makes the same bytes as one that was not; answers so far are kept beside the output (`ResumableFile`), and
/// which of them are good is seen from their ids.
///
/// Memory does not grow with the input, but for 16 bytes of each custom id.
package struct Batch: Sendable {
    package var input: String
    package var output: String
    /// What the seeds of calls that name none are made of.
    package var seed: UInt64 = 0
    /// Everything that the engine is told, and how replies name the model.
    package var settings: ServiceSettings

    /// What a plan holds for lines and answers on their way.
    package static let plannedBytes = 24_000_000
    /// Lines and answers on their way, together; a single one may exceed it.
    static let windowBytes = 8 << 20
    /// Answers that may wait for an earlier one, for each session: as many short ones as may pass a long one.
    static let windowLinesPerSession = 64

    package init(input: String, output: String, settings: ServiceSettings) {
        self.input = input
        self.output = output
        self.settings = settings
        self.settings.engine.serverBytes = Self.plannedBytes
        // Nobody waits for a single answer here.
        self.settings.queue = .max
        self.settings.timeout = .seconds(365 * 24 * 3600)
    }

    package var partialPath: String { ResumableFile.partialPath(of: output) }

    /// Refuses an input that is not there, and an output that would destroy it or the model, before anything is loaded.
    package func check(modelPaths: [String]) throws(LatheError) {
        _ = try InputFile.open(path: input)
        for path in [output, partialPath] { try checkOutput(path, isNoneOf: [input] + modelPaths) }
    }

    /// - Parameters:
    ///   - plan: by `ServicePlan.fitting(settings)`.
    ///   - progress: called when answers have been written.
    /// - Throws: `LatheError`, where a file cannot be read or written, or the partial file is of another batch;
    ///   `CancellationError`.
    package func run(
        model: Model, plan: MemoryPlan, progress: (BatchProgress) -> Void = { _ in }
    ) async throws -> BatchResult {
        let start = ContinuousClock.now
        var pass = BatchPass(
            input: try InputFile.open(path: input), output: try ResumableFile(path: output),
            identity: identity(model, plan), window: Self.windowLinesPerSession * plan.sessions)
        try pass.skipAnswered()
        let resumed = pass.tally
        let service = try TextService(
            model: model, plan: plan, settings: settings, metrics: ServiceMetrics(factory: NOOPMetricsHandler.instance))
        if !pass.isComplete { try await service.warmUp() }
        progress(pass.progress(resumed: resumed))
        // Half of them wait, so that a session that has become free finds work.
        let running = 2 * plan.sessions
        try await withThrowingTaskGroup(of: (Int, BatchAnswer).self) { group in
            var runningCount = 0
            while true {
                while runningCount < running, let (place, request) = try pass.next() {
                    guard case .call(let path, let body) = request.content else { continue }
                    runningCount += 1
                    group.addTask { (place, try await Self.answer(request, path, body, service)) }
                }
                if try pass.writeAnswers() { progress(pass.progress(resumed: resumed)) }
                if runningCount > 0 {
                    let (place, answer) = try await group.next()!
                    runningCount -= 1
                    pass.answer(place, answer)
                } else if pass.isComplete {
                    break
                }
            }
        }
        try pass.finish()
        return BatchResult(tally: pass.tally, resumed: resumed, seconds: (ContinuousClock.now - start).seconds)
    }

    private static func answer(
        _ request: BatchRequest, _ path: String, _ body: [UInt8], _ service: TextService
    ) async throws -> BatchAnswer {
        let reply = await service.reply(to: ServiceCall(path: path, body: body, client: ""))
        // What a cancelled call says is no answer.
        try Task.checkCancellation()
        guard case .document(let document) = reply else { preconditionFailure("a call that streams was let through") }
        return BatchAnswer(request, reply: document)
    }

    /// Everything that answers depend on, beside the lines.
    private func identity(_ model: Model, _ plan: MemoryPlan) -> BatchIdentity {
        let metadata = model.file.container.metadata.sorted { $0.key < $1.key }.flatMap { [$0.key, $0.value] }
        return BatchIdentity(
            seed: seed, [settings.modelName, plan.keyValueType.rawValue, "\(plan.contextLength)"] + metadata)
    }
}

/// How far a batch is.
package struct BatchProgress: Sendable {
    /// Of the input's bytes, those whose answers are written, 0…1.
    package let fraction: Double
    /// The same when this run began.
    package let resumedFraction: Double
    package let tally: BatchTally
    /// Of `tally`, what an earlier run wrote.
    package let resumed: BatchTally
}

package struct BatchResult: Sendable {
    /// All lines of the output.
    package let tally: BatchTally
    /// Of them, what an earlier run wrote.
    package let resumed: BatchTally
    /// What this run took, the warm-up included.
    package let seconds: Double

    /// New tokens that this run made.
    package var tokensPerSecond: Double { Double(tally.newTokens - resumed.newTokens) / max(seconds, 1e-9) }
}
