import FoundationEssentials
import Hummingbird
import Lathe

/// `POST /generate {"prompt": "…", "maximumTokens": 64}` → server-sent events, one for each piece of text.
@main struct HummingbirdService {
    struct Call: Decodable {
        let prompt: String
        var maximumTokens: Int?
    }

    static func main() async throws {
        let engine = try makeEngine(file: CommandLine.arguments[1])
        let router = Router()
        router.post("generate") { request, context in
            let call = try await request.decode(as: Call.self, context: context)
            let tokens = try begin(call, engine)
            return Response(
                status: .ok, headers: [.contentType: "text/event-stream"],
                body: ResponseBody { writer in
                    // A client that has gone makes `write` throw: the loop is left, the work ends, the session is free.
                    for try await token in tokens where !token.text.isEmpty {
                        try await writer.write(event(token.text))
                    }
                    try await writer.finish(nil)
                })
        }
        // SIGTERM and SIGINT: no call is taken any more, those under way end.
        try await Application(router: router, configuration: .init(address: .hostname("127.0.0.1", port: 8080)))
            .runService()
    }

    static func makeEngine(file: String) throws -> Engine {
        var options = EngineOptions()
        options.maximumSessions = 8
        options.contextLength = 256
        options.memoryBudget = 200_000_000
        options.runtimeBytes = 40_000_000
        return try Engine(model: try Model.open(file), options: options)
    }

    static func begin(_ call: Call, _ engine: Engine) throws -> AsyncThrowingStream<GeneratedToken, any Error> {
        guard let tokenizer = engine.model.tokenizer else { throw HTTPError(.notImplemented) }
        var options = GenerationOptions()
        options.maximumTokens = call.maximumTokens ?? 64
        do throws(LatheError) {
            return try engine.makeSession().generate(tokenizer.encode(call.prompt), options: options)
        } catch {
            throw HTTPError(error.code == .budget ? .serviceUnavailable : .badRequest, message: error.message)
        }
    }

    static func event(_ text: String) throws -> ByteBuffer {
        ByteBuffer(string: "data: \(String(decoding: try JSONEncoder().encode(["text": text]), as: UTF8.self))\n\n")
    }
}
