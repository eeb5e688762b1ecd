import Foundation
import LatheFormat
import Testing

@testable import LatheService

/// Lines of a batch, before any model sees them.
@Suite struct BatchLineTests {
    private func lines(_ text: [UInt8], maximum: Int = 1 << 20) throws -> [LineReader.Line] {
        let folder = try BatchFolder()
        var reader = LineReader(
            try InputFile.open(path: try folder.write(text, to: "lines")), maximumByteCount: maximum)
        var lines: [LineReader.Line] = []
        while let line = try reader.next() { lines.append(line) }
        return lines
    }

    @Test func linesAndTheirEnds() throws {
        let found = try lines(Array("one\n\n  \r\ntwö\nthree".utf8))
        #expect(found.map(\.bytes) == ["one", "", "  \r", "twö", "three"].map { Array($0.utf8) })
        #expect(found.map(\.end) == [4, 5, 9, 14, 19])
        #expect(found.map(\.isTerminated) == [true, true, true, true, false])
        #expect(found.map(\.isBlank) == [false, true, true, false, false])
        #expect(found.map(\.number) == [1, 2, 3, 4, 5])
        #expect(try lines([]).isEmpty)
    }

    /// Longer than the pieces in which a file is read, and exactly as long.
    @Test(arguments: [(256 << 10) - 2, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 700_000])
    func longLines(count: Int) throws {
        let long = [UInt8](repeating: UInt8(ascii: "x"), count: count)
        let text = long + Array("\nshort\n".utf8)
        let whole = try lines(text)
        #expect(whole.count == 2 && whole[0].bytes == long && whole[1].bytes == Array("short".utf8))
        let cut = try lines(text, maximum: count - 1)
        #expect(cut[0].bytes == nil && cut[0].byteCount == count && cut[1].bytes == Array("short".utf8))
        #expect(try lines(text, maximum: count)[0].bytes == long)
    }

    private func request(_ text: String, number: Int = 1, seed: UInt64 = 0, model: String = "m") -> BatchRequest {
        var seen = CustomIDs()
        return request(text, number: number, seed: seed, model: model, &seen)
    }

    private func request(
        _ text: String, number: Int = 1, seed: UInt64 = 0, model: String = "m", _ seen: inout CustomIDs
    ) -> BatchRequest {
        let bytes = Array(text.utf8)
        let line = LineReader.Line(
            number: number, bytes: bytes, byteCount: bytes.count, end: bytes.count, isTerminated: true)
        return BatchRequest(line, run: BatchIdentity(seed: seed, [model]), seen: &seen)
    }

    @Test(arguments: [
        ("nonsense", "invalid_json", 400), ("[1]", "invalid_json", 400), ("{\"custom_id\":\"a\"", "invalid_json", 400),
        ("{\"custom_id\":\"a\",\"custom_id\":\"b\"}", "invalid_json", 400),
        ("{\"custom_id\":\"\\ud800\"}", "invalid_json", 400),
        ("{}", "invalid_custom_id", 400), ("{\"custom_id\":7}", "invalid_custom_id", 400),
        ("{\"custom_id\":null}", "invalid_custom_id", 400), ("{\"custom_id\":\"\"}", "invalid_custom_id", 400),
        ("{\"custom_id\":\"a\"}", "invalid_method", 400),
        ("{\"custom_id\":\"a\",\"method\":\"GET\"}", "invalid_method", 400),
        ("{\"custom_id\":\"a\",\"method\":\"POST\"}", "invalid_url", 400),
        ("{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\"}", "invalid_url", 400),
        ("{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/generate\"}", "invalid_body", 400),
        ("{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/generate\",\"body\":\"x\"}", "invalid_body", 400),
        (
            "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/generate\",\"body\":{\"stream\":true}}",
            "stream_in_batch", 400
        ),
    ])
    func refusals(line: String, code: String, status: Int) throws {
        guard case .refused(let error) = request(line).content else {
            Issue.record("\(line) was let through")
            return
        }
        #expect(error.code == code && error.status == status, "\(error)")
        #expect(error.message.contains("ine 1") && error.message.hasSuffix("."), "\(error.message)")
    }

    @Test func deepAndManyValuesAreRefused() {
        for line in [String(repeating: "[", count: 10_000), "[" + String(repeating: "1,", count: 70_000) + "1]"] {
            guard case .refused(let error) = request(line).content else {
                Issue.record("\(line.prefix(10))… was let through")
                continue
            }
            #expect(error.code == "invalid_json")
        }
    }

    @Test func idsMayOccurOnce() {
        var seen = CustomIDs()
        let line = "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/generate\",\"body\":{}}"
        guard case .call = request(line, &seen).content,
            case .refused(let error) = request(line, number: 2, &seen).content
        else {
            Issue.record("wrong way round")
            return
        }
        #expect(error.code == "duplicate_custom_id")
        // Composed and decomposed are two strings of bytes, and two ids.
        #expect(seen.insert("\u{E9}") && seen.insert("e\u{301}") && !seen.insert("\u{E9}"))
    }

    private func body(_ body: String, seed: UInt64 = 0) throws -> JSONObject {
        let line = "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/generate\",\"body\":\(body)}"
        guard case .call(let path, let bytes) = request(line, seed: seed).content else {
            throw LatheError(.corrupt, "refused")
        }
        #expect(path == "/generate")
        return try JSON.parse(bytes, source: "body").object(at: "body")
    }

    @Test func seedsComeFromTheID() throws {
        let first = try body("{\"prompt\":\"x\"}")
        #expect(first["seed"] == (try body("{\"seed\":null,\"prompt\":\"x\"}"))["seed"])
        #expect(first["seed"] != (try body("{}", seed: 1))["seed"])
        #expect(try first.int("seed", in: "body") < 1 << 53)
        #expect(try body("{\"seed\":12}")["seed"] == 12)
    }

    @Test func identity() {
        let line = "{\"custom_id\":\"a\"}"
        let id = request(line).id
        #expect(id == request(line).id)
        #expect(
            Set([id, request(line + " ").id, request(line, number: 2).id, request(line, model: "n").id]).count == 4)
        #expect(request(line, seed: 1).id != id)
    }
}

/// A folder that is removed with the value.
final class BatchFolder: Sendable {
    let path = NSTemporaryDirectory() + "/lathe-batch-\(UInt64.random(in: .min ... .max))"

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func path(_ name: String) -> String { "\(path)/\(name)" }
    func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }
    func bytes(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(fileURLWithPath: path(name)))) }

    @discardableResult
    func write(_ bytes: [UInt8], to name: String) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: path(name)))
        return path(name)
    }
}
