import Foundation
import LatheFormat
import Testing

/// `lathe batch` as a user runs it.
@Suite(.serialized) struct BatchTests {
    /// Sampled, and without a seed.
    private static func input(_ count: Int, newTokens: Int = 40) -> String {
        (0..<count).map {
            """
            {"custom_id":"call \($0)","method":"POST","url":"/v1/completions",\
            "body":{"prompt":"Chapter \($0)","max_tokens":\(newTokens + $0 % 7),"ignore_eos":true}}\n
            """
        }.joined()
    }

    private func arguments(_ folder: Folder, _ more: String...) async throws -> [String] {
        ["batch", folder.path("in"), "-o", folder.path("out"), "--model", try await Fixtures.novelistFile.path] + more
    }

    @Test func answersAndCounts() async throws {
        let folder = try Folder()
        try folder.write("nonsense\n" + Self.input(6), to: "in")
        let outcome = try await CommandLineTool.start(try await arguments(folder, "--json")).outcome()
        let json = try outcome.json()
        #expect(
            json.keys == [
                "output", "request_counts", "prompt_tokens", "completion_tokens", "seconds", "tokens_per_second",
                "sessions", "peak_resident_bytes",
            ])
        #expect(outcome.errors.isEmpty)
        let counts = try json.object("request_counts", in: "output")
        #expect(counts.members.map(\.key) == ["total", "completed", "failed", "resumed"])
        #expect(try counts.members.map { try $0.value.int(at: "") } == [7, 6, 1, 0])
        #expect(try json.int("completion_tokens", in: "output") == 6 * 40 + 15)
        #expect(try json.int("sessions", in: "output") == 16)
        let lines = try folder.bytes("out").split(separator: 10)
        #expect(lines.count == 7)
        for (index, line) in lines.enumerated() {
            let answer = try JSON.parse(Array(line), source: "").object(at: "")
            #expect(answer["custom_id"] == (index == 0 ? .null : .string("call \(index - 1)")))
        }
        // Without --json: nothing on standard output, the counts on the other.
        let again = try await CommandLineTool.start(try await arguments(folder)).outcome()
        #expect(again.status == 0 && again.output.isEmpty)
        #expect(again.errors.contains("6 of 7 answered, 1 refused") && again.errors.hasSuffix("\n"))
    }

    /// Killed several times, wherever it is, and interrupted once.
    @Test func aKilledRunEndsWithTheSameBytes() async throws {
        let folder = try Folder()
        try folder.write(Self.input(150), to: "in")
        let arguments = try await arguments(folder, "--sessions", "4", "--json")
        _ = try await CommandLineTool.start(arguments).outcome().json()
        let whole = try folder.bytes("out")
        try FileManager.default.removeItem(atPath: folder.path("out"))

        var kept = 0
        for round in 0..<4 {
            let run = try CommandLineTool.start(arguments)
            // Until it has added something.
            while run.process.isRunning {
                if let size = try? folder.bytes("out.partial").count, size > kept + 2000 { break }
                try await Task.sleep(for: .milliseconds(1))
            }
            try #require(run.process.isRunning, "the batch is too short for this test")
            if round == 3 { run.process.interrupt() } else { kill(run.process.processIdentifier, SIGKILL) }
            let outcome = try await run.outcome()
            if round == 3 {
                #expect(outcome.status == 130 && !outcome.isSignal)
                #expect(outcome.errors.hasPrefix("lathe: Interrupted") && outcome.errors.contains("out.partial"))
            } else {
                #expect(outcome.isSignal)
            }
            #expect(try folder.names() == ["in", "out.partial"])
            kept = try folder.bytes("out.partial").count
            // Whole lines, and perhaps a torn one.
            let partial = try folder.bytes("out.partial")
            #expect(whole.starts(with: partial))
            // As if the last write had been cut in the middle.
            if round == 1 { try folder.write(Array(partial.dropLast(100)), to: "out.partial") }
        }
        let last = try await CommandLineTool.start(arguments).outcome().json()
        #expect(try last.object("request_counts", in: "").int("resumed", in: "") > 0)
        #expect(try folder.bytes("out") == whole)
        #expect(try folder.names() == ["in", "out"])
    }

    @Test func filesThatCannotBe() async throws {
        let folder = try Folder()
        let input = try folder.write(Self.input(2), to: "in")
        let model = try await Fixtures.novelistFile.path
        func run(_ input: String, _ output: String) async throws -> CommandLineTool.Outcome {
            try await CommandLineTool.run("batch", input, "-o", output, "--model", model)
        }
        try await run(input, input).expectFailure("is the input")
        try await run(try folder.write(Self.input(2), to: "x.partial"), folder.path("x")).expectFailure("is the input")
        try await run(input, model).expectFailure("is the input")
        try await run("/nowhere/in", folder.path("out")).expectFailure("/nowhere/in")
        try await run(folder.path, folder.path("out")).expectFailure("a folder")
        try await run(input, "/nowhere/out").expectFailure("/nowhere")
        try await run(input, "/dev/null").expectFailure("/dev/null")
        #expect(try folder.names() == ["in", "x.partial"])
        #expect(try folder.bytes("in") == Array(Self.input(2).utf8))
    }

    /// A full disk, as far as a limit of a file's size is one: one sentence, and the answers so far are kept.
    @Test func aFullDiskKeepsWhatThereIs() async throws {
        let folder = try Folder()
        try folder.write(Self.input(60, newTokens: 4), to: "in")
        let arguments = try await arguments(folder)
        // In blocks of 512 bytes.
        let outcome = try await CommandLineTool.run(
            "batch", folder.path("in"), "-o", folder.path("out"), "--model", arguments[5], preparation: "ulimit -f 8")
        outcome.expectFailure("out.partial", "goes on from there")
        #expect(try folder.names() == ["in", "out.partial"])
        #expect(try !folder.bytes("out.partial").isEmpty)
        let rest = try await CommandLineTool.start(arguments + ["--json"]).outcome().json()
        let counts = try rest.object("request_counts", in: "")
        #expect(try counts.int("resumed", in: "") > 0 && counts.int("completed", in: "") == 60)
    }

    @Test func aBudgetIsKeptOrRefused() async throws {
        let folder = try Folder()
        try folder.write(Self.input(40, newTokens: 100), to: "in")
        let refused = try await CommandLineTool.start(try await arguments(folder, "--memory-budget", "30MB")).outcome()
        #expect(refused.status == 2)
        #expect(try folder.names() == ["in"])
        let json = try await CommandLineTool.start(
            try await arguments(folder, "--memory-budget", "80MB", "--json")
        ).outcome().json()
        #expect(try json.int("peak_resident_bytes", in: "") <= 80_000_000)
        #expect(try json.object("request_counts", in: "").int("completed", in: "") == 40)
    }
}
