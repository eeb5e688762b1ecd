package import Lathe
package import LatheFormat
import Synchronization

/// Text generation behind an API: calls in, replies out. HTTP, files and terminals are someone else's business.
///
/// Cancelling the task that awaits a reply, or letting go of its events, frees the call's sessions and places in the queue
/// before the engine's next step.
package final class TextService: Sendable {
    let engine: Engine
    private let settings: ServiceSettings
    private let metrics: ServiceMetrics
    private let queue: SessionQueue
    private let reader: PromptReader
    private let runner: SequenceRunner
    private let calls = Mutex(Calls())
    private let deadlines = Deadlines()

    private struct Calls {
        /// How to cancel each.
        var running: [UInt64: @Sendable () -> Void] = [:]
        var nextID: UInt64 = 0
        var isReady = false
        var isDraining = false
        var onEmpty: CheckedContinuation<Void, Never>?
    }

    /// - Throws: `budget` as `Engine.init`.
    package init(
        model: Model, plan: MemoryPlan, settings: ServiceSettings, metrics: ServiceMetrics
    ) throws(LatheError) {
        engine = try Engine(model: model, plan: plan)
        self.settings = settings
        self.metrics = metrics
        queue = SessionQueue(engine: engine, capacity: settings.queue)
        reader = PromptReader(model: model, contextLength: engine.contextLength, lane: TokenizerLane())
        runner = SequenceRunner(
            queue: queue, metrics: metrics, window: plan.sessions, promptLookup: settings.promptLookup)
    }

    // MARK: Life

    /// Ready: warm, and not on its way out.
    package var isReady: Bool { calls.withLock { $0.isReady && !$0.isDraining } }

    /// Whether a call that generates would be refused now, because too many wait.
    package var isFull: Bool { queue.isFull }

    /// Runs a prompt as long as a chunk and a few tokens, so that the first caller finds every page and thread in place.
    package func warmUp() async throws {
        let length = max(1, min(settings.engine.prefillChunk, engine.contextLength - 4))
        let session = try engine.makeSession(tokens: min(length + 4, engine.contextLength))
        var options = GenerationOptions()
        options.maximumTokens = min(4, engine.contextLength - length)
        options.ignoresEndOfText = true
        if options.maximumTokens >= 1 {
            for try await _ in try session.generate([Int32](repeating: 0, count: length), options: options) {}
        }
        calls.withLock { $0.isReady = true }
    }

    /// Refuses new calls and those that wait, lets the running ones end, and cancels what still runs after `grace`.
    package func drain(within grace: Duration) async {
        calls.withLock { $0.isDraining = true }
        queue.close()
        let timer = Task {
            try await Task.sleep(for: grace)
            for cancel in calls.withLock({ Array($0.running.values) }) { cancel() }
        }
        await withCheckedContinuation { continuation in
            let isEmpty = calls.withLock { calls in
                if !calls.running.isEmpty { calls.onEmpty = continuation }
                return calls.running.isEmpty
            }
            if isEmpty { continuation.resume() }
        }
        timer.cancel()
    }

    // MARK: Calls

    /// Paths that take a POST.
    package static let paths = ["/generate", "/v1/completions", "/tokenize", "/detokenize"]

    /// - Returns: a reply, also to what is wrong.
    package func reply(to call: ServiceCall) async -> ServiceReply {
        guard isReady else {
            return .document(ServiceDocument(.unavailable("The service is starting or shutting down.")))
        }
        do {
            switch call.path {
            case "/generate": return try await generate(call)
            case "/v1/completions": return try await complete(call)
            case "/tokenize": return .document(ServiceDocument(try await tokenize(call.body)))
            case "/detokenize": return .document(ServiceDocument(try detokenize(call.body)))
            default:
                throw ServiceError.notFound("There is nothing at \(call.path).", code: "not_found")
            }
        } catch let error as ServiceError {
            return .document(ServiceDocument(error))
        } catch is CancellationError {
            return .document(ServiceDocument(.unavailable("The call was cancelled.")))
        } catch {
            return .document(ServiceDocument(ServiceError(status: 500, type: "server_error", message: "\(error)")))
        }
    }

    private func generate(_ call: ServiceCall) async throws -> ServiceReply {
        let request = try await GenerateRequest(call.body, reader)
        if !request.streams {
            let result = try await run([request.sequence], call)
            return .document(ServiceDocument(GenerateReply.document(request, result[0])))
        }
        return try await events { [self] send in
            let result = try await run([request.sequence], call) { _, token, _ in
                if let event = GenerateReply.event(token) { send(event) }
            }
            send(GenerateReply.document(request, result[0]))
        }
    }

    private func complete(_ call: ServiceCall) async throws -> ServiceReply {
        let request = try await CompletionRequest(call.body, reader, modelName: settings.modelName)
        let reply = CompletionReply(
            request, modelName: settings.modelName, texts: TokenTexts(tokenizer: engine.model.tokenizer))
        if !request.streams {
            return .document(ServiceDocument(reply.document(try await run(request.sequences, call))))
        }
        let progress = ChoiceProgress(count: request.sequences.count)
        return try await events { [self] send in
            let results = try await run(request.sequences, call) { sequence, token, scores in
                let event = progress.update(sequence.index) { isFirst, offset in
                    reply.event(sequence, token, isFirst: isFirst, promptScores: scores, offset: &offset)
                }
                if let event { send(event) }
            }
            if request.streamsUsage { send(reply.usageEvent(newTokens: results.reduce(0) { $0 + $1.tokens.count })) }
        }
    }

    /// In vLLM's shape, which evaluation tools know: `{"prompt"}` → `{"tokens", "count", "max_model_len"}`.
    private func tokenize(_ body: [UInt8]) async throws(ServiceError) -> JSON {
        var fields = try Fields(body: body)
        guard let text = try fields.string("prompt") else {
            throw .invalid("The field \"prompt\" is missing.", param: "prompt")
        }
        try fields.requireModel(settings.modelName)
        // What a tokenizer adds by itself is part of it: there is nothing to leave out.
        _ = try fields.bool("add_special_tokens")
        try fields.requireNothingElse()
        guard let tokenizer = engine.model.tokenizer else { throw .invalid("This model has no tokenizer.") }
        let ids = await reader.lane.encode(text, tokenizer)
        return [
            "tokens": .array(ids.map { .number($0) }), "count": .number(ids.count),
            "max_model_len": .number(engine.contextLength),
        ]
    }

    /// `{"tokens"}` → `{"prompt"}`.
    private func detokenize(_ body: [UInt8]) throws(ServiceError) -> JSON {
        var fields = try Fields(body: body)
        guard case .array(let elements) = fields.value("tokens") else {
            throw .invalid("The field \"tokens\" must be a list of token ids.", param: "tokens")
        }
        try fields.requireModel(settings.modelName)
        try fields.requireNothingElse()
        guard engine.model.tokenizer != nil else { throw .invalid("This model has no tokenizer.") }
        if elements.isEmpty { return ["prompt": ""] }
        let ids = try reader.ids(elements, param: "tokens")
        return ["prompt": .string(try reader.prompt(ids: ids, param: "tokens").text)]
    }

    // MARK: Running

    /// Runs sequences in a task that the call's deadline, `drain`, and the caller's own cancellation end.
    private func run(
        _ sequences: [TokenSequence], _ call: ServiceCall,
        onToken: (@Sendable (TokenSequence, GeneratedToken, [TokenScore]) -> Void)? = nil
    ) async throws -> [Continuation] {
        let work = Task { [self] in try await runner.run(sequences, of: call, onToken: onToken) }
        let id = calls.withLock { calls in
            calls.nextID += 1
            calls.running[calls.nextID] = { work.cancel() }
            return calls.nextID
        }
        let isLate = Flag()
        let deadline = deadlines.add(call.received + settings.timeout) {
            isLate.raise()
            work.cancel()
        }
        defer {
            deadlines.remove(deadline)
            let onEmpty = calls.withLock { calls in
                calls.running[id] = nil
                guard calls.running.isEmpty else { return nil as CheckedContinuation<Void, Never>? }
                defer { calls.onEmpty = nil }
                return calls.onEmpty
            }
            onEmpty?.resume()
        }
        do {
            let results = try await withTaskCancellationHandler {
                try await work.value
            } onCancel: {
                work.cancel()
            }
            metrics.ended(after: ContinuousClock.now - call.received)
            return results
        } catch is CancellationError where isLate.isRaised {
            throw ServiceError.deadlinePassed(settings.timeout)
        }
    }

    /// Starts `produce`, and gives its events when the first is there.
    ///
    /// - Throws: what `produce` throws before its first event.
    private func events(
        _ produce: @escaping @Sendable (@escaping @Sendable (JSON) -> Void) async throws -> Void
    ) async throws -> ServiceReply {
        let (stream, continuation) = AsyncStream.makeStream(
            of: [UInt8].self, bufferingPolicy: .bufferingOldest(settings.eventBuffer))
        let sink = EventSink(continuation)
        let task = Task {
            do {
                try await produce { sink.send($0) }
                sink.finish()
            } catch {
                sink.fail(error)
            }
        }
        continuation.onTermination = { _ in task.cancel() }
        return try await withTaskCancellationHandler {
            var iterator = stream.makeAsyncIterator()
            if let first = await iterator.next() { return .events(ServiceEvents(first: first, rest: stream)) }
            throw sink.earlyFailure ?? CancellationError()
        } onCancel: {
            task.cancel()
        }
    }

    // MARK: What it is

    /// The description of the interface, as JSON.
    package var openAPI: [UInt8] {
        OpenAPI.document(vocabularySize: engine.model.configuration.vocabularySize)
    }

    package func models() -> ServiceDocument {
        let configuration = engine.model.configuration
        return ServiceDocument(
            [
                "object": "list",
                "data": [
                    [
                        "id": .string(settings.modelName), "object": "model", "created": 0, "owned_by": "lathe",
                        "architecture": .string(configuration.architecture),
                        "vocabulary_size": .number(configuration.vocabularySize),
                        "context_length": .number(engine.contextLength),
                    ]
                ],
            ])
    }

    package func memory() -> ServiceDocument { ServiceDocument(state.json) }

    /// Before metrics are read.
    package func refreshMetrics() { metrics.refresh(state) }

    private var state: ServiceState {
        ServiceState(
            running: engine.sessionCount, waiting: queue.waitingCount, sessions: engine.plan.sessions,
            keyValueTokens: engine.keyValueTokens, budget: engine.plan.budget, plannedBytes: engine.plan.totalByteCount,
            residentBytes: ProcessMemory.residentBytes(), peakResidentBytes: ProcessMemory.peakResidentBytes(),
            categories: engine.memory)
    }
}

/// What the choices of a streamed completion have told so far.
private final class ChoiceProgress: Sendable {
    private let choices: Mutex<[(isFirst: Bool, offset: Int)]>

    init(count: Int) { choices = Mutex(Array(repeating: (true, 0), count: count)) }

    func update<Value>(_ index: Int, _ body: (_ isFirst: Bool, _ offset: inout Int) -> sending Value) -> sending Value {
        choices.withLock { choices in
            let isFirst = choices[index].isFirst
            choices[index].isFirst = false
            return body(isFirst, &choices[index].offset)
        }
    }
}

private final class Flag: Sendable {
    private let state = Atomic(false)
    var isRaised: Bool { state.load(ordering: .acquiring) }
    func raise() { state.store(true, ordering: .releasing) }
}
