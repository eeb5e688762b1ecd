import CoreMetrics
import Dispatch
import FoundationEssentials
import Lathe
import LatheCompiler
import LatheFormat
import Synchronization
import Testing

@testable import LatheService

/// A service on a model in memory, and calls to it as a client would write them.
struct ServiceFixture: Sendable {
    let service: TextService
    let model: Model
    static let modelName = "novelist"

    init(
        _ model: Model? = nil, sessions: Int = 4, context: Int? = 128, queue: Int = 8, timeout: Duration = .seconds(60),
        keyValueTokens: Int? = nil, chunk: Int = 64, eventBuffer: Int = 1024, promptLookup: Int = 0,
        warm: Bool = true
    ) async throws {
        let model = try model ?? TestModel.novelist()
        var settings = ServiceSettings(modelName: Self.modelName)
        settings.engine.contextLength = context
        settings.engine.maximumSessions = sessions
        settings.engine.keyValueTokens = keyValueTokens
        settings.engine.prefillChunk = chunk
        settings.queue = queue
        settings.timeout = timeout
        settings.eventBuffer = eventBuffer
        settings.promptLookup = promptLookup
        let plan = try MemoryPlan(model: model, options: settings.engine)
        service = try TextService(
            model: model, plan: plan, settings: settings, metrics: ServiceMetrics(factory: NOOPMetricsHandler.instance))
        self.model = model
        if warm { try await service.warmUp() }
    }

    func reply(_ path: String, _ body: JSON, client: String = "a") async -> ServiceReply {
        await service.reply(to: ServiceCall(path: path, body: body.serializedBytes(), client: client))
    }

    /// Status and body of a reply that is no stream.
    func post(_ path: String, _ body: JSON, client: String = "a") async throws -> Answer {
        try await post(path, bytes: body.serializedBytes(), client: client)
    }

    func post(_ path: String, bytes: [UInt8], client: String = "a") async throws -> Answer {
        let reply = await service.reply(to: ServiceCall(path: path, body: bytes, client: client))
        guard case .document(let document) = reply else {
            Issue.record("\(path) gave a stream")
            throw CancellationError()
        }
        let json = try JSON.parse(document.body, source: "the reply")
        return Answer(status: document.status, json: json, retryAfterSeconds: document.retryAfterSeconds)
    }

    /// The events of a stream, but for the closing mark, which must be there.
    func events(_ path: String, _ body: JSON) async throws -> [JSON] {
        guard case .events(let events) = await reply(path, body) else {
            Issue.record("\(path) gave no stream")
            return []
        }
        var texts: [String] = []
        for await event in events { texts.append(String(decoding: event, as: UTF8.self)) }
        #expect(texts.allSatisfy { $0.hasPrefix("data: ") && $0.hasSuffix("\n\n") })
        #expect(texts.last == "data: [DONE]\n\n")
        return try texts.dropLast().map { try JSON.parse(Array($0.utf8.dropFirst(6)), source: "an event") }
    }

    /// Waits until `condition` of the service's own account holds; a suite's time limit ends a wait for what never comes.
    func eventually(_ condition: (JSON) throws -> Bool) async throws {
        while try !condition(JSON.parse(service.memory().body, source: "memory")) {
            try await Task.sleep(for: .milliseconds(1))
        }
    }

    /// Nobody runs, nobody waits, nothing is promised.
    func isIdle() async throws {
        try await eventually {
            $0["sessions"]!["running"] == 0 && $0["sessions"]!["waiting"] == 0
                && $0["kv_cache"]!["promised_tokens"] == 0
        }
    }
}

/// Holds the compute thread between two steps while it is closed, so that what happens meanwhile is no matter of luck.
final class Turnstile: Sendable {
    private let semaphore = DispatchSemaphore(value: 1)

    /// Stands in the engine's way from now on; open at first.
    init(_ engine: Engine) async { await engine.watch { [self] phase in if phase == .step { pass() } } }

    func close() { semaphore.wait() }
    func open() { semaphore.signal() }

    private func pass() {
        semaphore.wait()
        semaphore.signal()
    }
}

struct Answer: Sendable {
    let status: Int
    let json: JSON
    let retryAfterSeconds: Int?
    var error: JSON? { json["error"] }
}

extension JSON {
    /// A member of an object; nil where there is none, or this is none.
    subscript(_ key: String) -> JSON? {
        if case .object(let object) = self { object[key] } else { nil }
    }
    subscript(_ index: Int) -> JSON? {
        if case .array(let elements) = self, elements.indices.contains(index) { elements[index] } else { nil }
    }
    var text: String? { if case .string(let text) = self { text } else { nil } }
    var elements: [JSON]? { if case .array(let elements) = self { elements } else { nil } }
    var integer: Int? { if case .number(let digits) = self { Int(digits) } else { nil } }
    var float: Float? { if case .number(let digits) = self { Float(digits) } else { nil } }
    /// With these members in place of, or besides, its own.
    func with(_ members: [(String, JSON)]) -> JSON {
        guard case .object(let object) = self else { return self }
        let kept = object.members.filter { member in !members.contains { $0.0 == member.key } }
        return .object(JSONObject(kept.map { ($0.key, $0.value) } + members))
    }
}

enum TestModel {
    private static let cache = Mutex<Model?>(nil)

    /// The bundled model, int8; converted once.
    static func novelist() throws -> Model {
        try cache.withLock { cache in
            if let model = cache { return model }
            let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent().deletingLastPathComponent().path()
            let file = try Compiler(recipe: Recipe(weights: .int8)).compileInMemory(
                checkpoint: "\(package)/models/novelist")
            let model = try Model(file: try ModelFile.open(mapped: file, verify: false))
            cache = model
            return model
        }
    }

    /// A small model without a tokenizer whose numbers leave the finite ones when a sequence reaches `position`.
    static func poisoned(at position: Int) throws -> Model {
        let folder = FileManager.default.temporaryDirectory.path() + "lathe-poison-\(UInt64.random(in: .min ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let width = 32
        let configuration: JSON = [
            "model_type": "gpt2", "activation_function": "gelu_new", "vocab_size": 131, "n_positions": 128,
            "n_embd": .number(width), "n_layer": 2, "n_head": 2, "layer_norm_epsilon": 1e-5, "bos_token_id": 7,
            "eos_token_id": 130, "tie_word_embeddings": true,
        ]
        try Data(configuration.serializedBytes()).write(to: URL(filePath: "\(folder)/source.json"))
        try SyntheticCheckpoint(named: "\(folder)/source.json", seed: 5).write(to: folder)
        let path = "\(folder)/model.safetensors"
        var bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
        let length = bytes[0..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
        let header = try JSON.parse(Array(bytes[8..<8 + length]), source: path)
        guard case .object(let tensors) = header,
            let name = tensors.members.map(\.key).first(where: { $0.hasSuffix("wpe.weight") })
        else { throw CancellationError() }
        let start = 8 + length + tensors[name]!["data_offsets"]![0]!.integer! + position * width * 4
        for element in 0..<width {
            let bits = (element % 2 == 0 ? Float(3e38) : 2e38).bitPattern
            for byte in 0..<4 { bytes[start + element * 4 + byte] = UInt8(truncatingIfNeeded: bits >> (8 * byte)) }
        }
        try Data(bytes).write(to: URL(filePath: path))
        let file = try Compiler(recipe: Recipe(weights: .float32)).compileInMemory(checkpoint: folder)
        return try Model(file: try ModelFile.open(mapped: file, verify: false))
    }
}
