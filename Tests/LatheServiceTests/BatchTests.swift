import Foundation
import Lathe
import LatheFormat
import LatheWorkbench
import Testing

@testable import LatheService

/// Whole batches through the bundled model.
@Suite(.serialized) struct BatchTests {
    private static let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().path
    private static let model = Result {
        try ModelLoading.load(path: "\(package)/models/novelist", weights: .int8, threads: nil, verify: true)
    }

    @discardableResult
    private func run(
        _ folder: BatchFolder, sessions: Int = 4, seed: UInt64 = 0,
        progress: (BatchProgress) -> Void = { _ in }
    ) async throws -> BatchResult {
        let model = try Self.model.get()
        var settings = ServiceSettings(modelName: "novelist")
        settings.engine.contextLength = 128
        settings.sessions = sessions
        var batch = Batch(input: folder.path("in"), output: folder.path("out"), settings: settings)
        batch.seed = seed
        let plan = try ServicePlan.fitting(batch.settings) { options throws(LatheError) in
            try MemoryPlan(model: model, options: options)
        }
        return try await batch.run(model: model, plan: plan, progress: progress)
    }

    private func call(_ id: String, _ body: String, url: String = "/v1/completions") -> String {
        "{\"custom_id\":\"\(id)\",\"method\":\"POST\",\"url\":\"\(url)\",\"body\":\(body)}\n"
    }

    /// Long and short ones, so that they end in another order; sampled without a seed; refused ones among them.
    private func mixture(_ count: Int) -> String {
        (0..<count).map { index in
            switch index % 5 {
            case 0: call("c\(index)", "{\"prompt\":\"The sea was\",\"max_tokens\":\(index % 2 == 0 ? 100 : 40)}")
            case 1:
                call("c\(index)", "{\"prompt\":[\"A\",\"B\"],\"n\":2,\"max_tokens\":5,\"logprobs\":2,\"echo\":true}")
            case 2: call("c\(index)", "{\"prompt\":\"She\",\"max_new_tokens\":3,\"temperature\":0.9}", url: "/generate")
            case 3: call("c\(index)", "{\"prompt\":\"She\",\"max_tokens\":0}")
            default: index % 2 == 0 ? "not a call\n" : "\n" + call("c\(index)", "{\"prompt\":\"\",\"max_tokens\":1}")
            }
        }.joined()
    }

    private func objects(_ bytes: [UInt8]) throws -> [JSONObject] {
        try bytes.split(separator: 10).map { try JSON.parse(Array($0), source: "a line").object(at: "a line") }
    }

    @Test func answersInOrder() async throws {
        let folder = try BatchFolder()
        try folder.write(Array(mixture(40).utf8), to: "in")
        var fractions: [Double] = []
        let result = try await run(folder) { fractions.append($0.fraction) }
        #expect(try folder.names() == ["in", "out"])
        let answers = try objects(try folder.bytes("out"))
        #expect(answers.count == 40 && result.tally.total == 40)
        for (index, answer) in answers.enumerated() {
            #expect(answer.members.map(\.key) == ["id", "custom_id", "response", "error"])
            let response = try answer.object("response", in: "answer")
            let body = try response.object("body", in: "answer")
            let status = try response.int("status_code", in: "answer")
            if index % 5 == 4 && index % 2 == 0 {
                #expect(answer["custom_id"] == .null && status == 400 && body["error"] != nil)
                #expect(try answer.object("error", in: "answer").string("code", in: "answer") == "invalid_json")
                continue
            }
            #expect(answer["custom_id"] == .string("c\(index)") && answer["error"] == .null)
            // The service's own refusal stands in the response alone.
            #expect(status == (index % 5 == 3 ? 400 : 200))
            switch index % 5 {
            case 1: #expect(try body.array("choices", in: "body").count == 4)
            case 2: #expect(body["generated_text"] != nil && body["seed"] != nil)
            default: break
            }
        }
        #expect(result.tally.completed == 28 && result.tally.failed == 12 && result.resumed.total == 0)
        #expect(result.tally.newTokens > 0 && result.tokensPerSecond > 0)
        #expect(fractions == fractions.sorted() && fractions.last == 1)
    }

    @Test func nothingButTheBatchDecidesTheBytes() async throws {
        var outputs: Set<[UInt8]> = []
        for sessions in [1, 3, 8] {
            let folder = try BatchFolder()
            try folder.write(Array(mixture(15).utf8), to: "in")
            try await run(folder, sessions: sessions)
            outputs.insert(try folder.bytes("out"))
        }
        #expect(outputs.count == 1)
        let folder = try BatchFolder()
        try folder.write(Array(mixture(15).utf8), to: "in")
        try await run(folder, seed: 5)
        #expect(!outputs.contains(try folder.bytes("out")))
    }

    /// From every point at which a run may have been killed: between lines, within one, before the first, behind the last.
    @Test func anyPartialFileLeadsToTheSameOutput() async throws {
        let folder = try BatchFolder()
        try folder.write(Array(mixture(10).utf8), to: "in")
        try await run(folder)
        let whole = try folder.bytes("out")
        let ends = whole.indices.filter { whole[$0] == 10 }.map { $0 + 1 }
        for (count, end) in zip(0..., [0] + ends) {
            for torn in [0, 1, 57] where end + torn <= whole.count && (torn == 0 || end < whole.count) {
                try folder.write(Array(whole[..<(end + torn)]), to: "out.partial")
                let result = try await run(folder)
                #expect(result.resumed.total == count && result.tally.total == 10)
                #expect(try folder.bytes("out") == whole)
                #expect(try folder.names() == ["in", "out"])
            }
        }
        // After a power failure there may be zeros, or a line of rubbish.
        for damage in [[UInt8](repeating: 0, count: 5000) + [10], Array("{\"id\":\"x\"\n".utf8), Array("{}\n".utf8)] {
            try folder.write(Array(whole[..<ends[3]]) + damage, to: "out.partial")
            #expect(try await run(folder).resumed.total == 4)
            #expect(try folder.bytes("out") == whole)
        }
    }

    @Test func anotherBatchesPartialFileIsRefused() async throws {
        let folder = try BatchFolder()
        try folder.write(Array(mixture(3).utf8), to: "in")
        try await run(folder)
        let whole = try folder.bytes("out")
        for change in ["seed", "input", "shorter"] {
            try folder.write(whole, to: "out.partial")
            if change == "input" { try folder.write(Array((" " + mixture(3)).utf8), to: "in") }
            if change == "shorter" { try folder.write(Array(mixture(2).utf8), to: "in") }
            await #expect {
                try await run(folder, seed: change == "seed" ? 1 : 0)
            } throws: { error in
                (error as? LatheError)?.message.contains("out.partial\", line") ?? false
            }
            // Neither has been touched.
            #expect(try folder.bytes("out.partial") == whole && folder.bytes("out") == whole)
        }
    }

    @Test func emptyInputs() async throws {
        for text in ["", "\n", " \r\n\n"] {
            let folder = try BatchFolder()
            try folder.write(Array(text.utf8), to: "in")
            #expect(try await run(folder).tally.total == 0)
            #expect(try folder.bytes("out").isEmpty)
        }
    }

    @Test func longLinesAreNeverHeld() async throws {
        let folder = try BatchFolder()
        let long = String(repeating: "x", count: 3 << 20)
        let text = call("a", "{\"prompt\":\"\(long)\"}") + call("b", "{\"prompt\":\"She\",\"max_tokens\":2}")
        try folder.write(Array(text.utf8), to: "in")
        let result = try await run(folder)
        #expect(result.tally.completed == 1 && result.tally.failed == 1)
        let answers = try objects(try folder.bytes("out"))
        #expect(try answers[0].object("response", in: "").int("status_code", in: "") == 413)
        #expect(answers[0]["custom_id"] == .null && answers[1]["custom_id"] == "b")
    }

    @Test func aCancelledRunKeepsWhatItHas() async throws {
        let folder = try BatchFolder()
        try folder.write(Array(mixture(120).utf8), to: "in")
        let (began, signal) = AsyncStream.makeStream(of: Void.self)
        let task = Task { try await run(folder) { if $0.tally.total > 10 { signal.yield() } } }
        for await _ in began { break }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(try folder.names() == ["in", "out.partial"])
        #expect(try await run(folder).resumed.total > 10)
    }
}

/// The file in which answers grow.
@Suite struct ResumableFileTests {
    private func append(_ text: String, to file: ResumableFile) throws {
        try file.append(ByteView(copying: Array(text.utf8)))
    }

    @Test func goesOnBehindWhatIsGood() throws {
        let folder = try BatchFolder()
        var file: ResumableFile? = try ResumableFile(path: folder.path("out"))
        try append("one\ntw", to: file!)
        // One writer at a time.
        #expect(throws: LatheError.self) { try ResumableFile(path: folder.path("out")) }
        file = nil
        #expect(try folder.names() == ["out.partial"])
        let next = try ResumableFile(path: folder.path("out"))
        #expect(next.byteCount == 6)
        #expect(try next.open().readAll().array() == Array("one\ntw".utf8))
        try next.truncate(to: 4)
        try append("two\n", to: next)
        try next.finish()
        #expect(try folder.names() == ["out"])
        #expect(try folder.bytes("out") == Array("one\ntwo\n".utf8))
    }

    @Test func keepsPermissionsAndRefusesWhatIsNoFile() throws {
        let folder = try BatchFolder()
        try folder.write(Array("old".utf8), to: "out")
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: folder.path("out"))
        let file = try ResumableFile(path: folder.path("out"))
        try append("new", to: file)
        #expect(try folder.bytes("out") == Array("old".utf8))
        try file.finish()
        let attributes = try FileManager.default.attributesOfItem(atPath: folder.path("out"))
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        // A link is not followed: what it leads to may be anything.
        try FileManager.default.createSymbolicLink(
            atPath: folder.path("link.partial"), withDestinationPath: folder.path("out"))
        try FileManager.default.createDirectory(atPath: folder.path("sub"), withIntermediateDirectories: false)
        for path in ["link", "sub", "sub/", "nowhere/out"] {
            #expect(throws: LatheError.self) { try ResumableFile(path: folder.path(path)) }
        }
        #expect(throws: LatheError.self) { try ResumableFile(path: "/dev/null") }
        #expect(throws: LatheError.self) { try ResumableFile(path: "") }
        #expect(try folder.bytes("out") == Array("new".utf8))
    }
}
