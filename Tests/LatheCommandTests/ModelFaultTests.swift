import Foundation
import LatheFormat
import Testing

/// Models that are damaged, or something else under that name.
@Suite(.serialized) struct ModelFaultTests {
    @Test func everyFlipInAFileIsCaught() async throws {
        let good = try Fixtures.bytes(try await Fixtures.tinyFile.path)
        let folder = try Folder()
        // The whole header's length field and some places of header and tensors.
        var places = Array(0..<8)
        var random = SystemRandomNumberGenerator()
        places += (0..<24).map { _ in Int.random(in: 8..<good.count, using: &random) }
        for place in places {
            var bytes = good
            bytes[place] ^= UInt8(1 << Int.random(in: 0..<8, using: &random))
            let path = try folder.write(bytes, to: "model.lathe")
            try await CommandLineTool.run("generate", "--model", path, "--ids", "1").expectFailure("model.lathe")
        }
    }

    /// Without checksums a flip may go unnoticed, but never crash.
    @Test func flipsWithoutVerificationDoNotCrash() async throws {
        let good = try Fixtures.bytes(try await Fixtures.tinyFile.path)
        let folder = try Folder()
        for _ in 0..<24 {
            var bytes = good
            for _ in 0..<100 {
                bytes[Int.random(in: bytes.count / 2..<bytes.count)] = UInt8.random(in: 0...255)
            }
            let path = try folder.write(bytes, to: "model.lathe")
            let outcome = try await CommandLineTool.run(
                "generate", "--model", path, "--ids", "1", "--no-verify", "-n", "20")
            #expect(!outcome.isSignal && [0, 1].contains(outcome.status), "\(outcome.errors)")
        }
    }

    @Test(arguments: [0.0, 0.01, 0.3, 0.9, 0.9999])
    func truncatedFilesAreSaidToBeSo(part: Double) async throws {
        let good = try Fixtures.bytes(try await Fixtures.tinyFile.path)
        let folder = try Folder()
        let path = try folder.write(Array(good.prefix(Int(Double(good.count) * part))), to: "model.lathe")
        for verify in [[], ["--no-verify"]] {
            try await CommandLineTool.start(["score", "--model", path, "--ids", "1"] + verify).outcome()
                .expectFailure("model.lathe")
        }
        try await CommandLineTool.run("inspect", path).expectFailure("model.lathe")
    }

    @Test func aFileThatIsTruncatedWhileItRunsEndsWithASentence() async throws {
        let folder = try Folder()
        let path = try folder.write(try Fixtures.bytes(try await Fixtures.novelistFile.path), to: "novelist.lathe")
        let run = try CommandLineTool.start([
            "bench", "--model", path, "--prompt-tokens", "8", "--new-tokens", "40", "--runs", "1000000",
        ])
        try await run.waitUntilMapped("novelist.lathe")
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try handle.truncate(atOffset: 8192)
        try await run.outcome().expectFailure("novelist.lathe", "shorter")
    }

    @Test func otherFormatsAreNamed() async throws {
        let folder = try Folder()
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n"
        let page = "<!DOCTYPE html><html><body>Not found</body></html>"
        for (text, word) in [(pointer, "LFS"), (page, "HTML")] {
            let path = try folder.write(text, to: "model.lathe")
            try await CommandLineTool.run("generate", "--model", path, "--ids", "1").expectFailure("model.lathe", word)
            try await CommandLineTool.run("inspect", path).expectFailure("model.lathe", word)
            for name in ["model.safetensors", "config.json"] {
                let checkpoint = try folder.copy(Fixtures.tiny, as: "checkpoint")
                try folder.write(text, to: "checkpoint/\(name)")
                try await CommandLineTool.run("generate", "--model", checkpoint, "--ids", "1").expectFailure(name, word)
                try FileManager.default.removeItem(atPath: checkpoint)
            }
        }
        try await CommandLineTool.run(
            "generate", "--ids", "1", "--model", "\(Fixtures.tiny)/model.safetensors"
        ).expectFailure("model.safetensors", ".lathe")
    }

    @Test func foldersWithoutWeightsAreSaidToBeSo() async throws {
        let folder = try Folder()
        let checkpoint = try folder.copy(Fixtures.tiny, as: "checkpoint")
        try FileManager.default.removeItem(atPath: "\(checkpoint)/model.safetensors")
        try await CommandLineTool.run("quantize", checkpoint, "-o", folder.path("x")).expectFailure("model.safetensors")
        try folder.write("pickle", to: "checkpoint/pytorch_model.bin")
        try await CommandLineTool.run("generate", "--model", checkpoint, "--ids", "1")
            .expectFailure("pytorch_model.bin", "python3 -c", "safe_serialization=True)\"")
        #expect(try folder.names() == ["checkpoint"])
        let empty = try Folder()
        try await CommandLineTool.run("generate", "--model", empty.path, "--ids", "1").expectFailure("config.json")
    }

    /// Names from files break no line and steer no terminal.
    @Test func controlCharactersFromFilesAreEscaped() async throws {
        let folder = try Folder()
        let name = "evil\n\u{1B}[2Jlathe: all is well"
        let writer = try SafetensorsWriter(
            .path(folder.path("x.safetensors")), tensors: [.init(name: name, dtype: .u8, shape: [1])])
        try writer.write(ByteView(copying: [0]))
        try writer.finish()
        let outcome = try await CommandLineTool.run("inspect", folder.path("x.safetensors"))
        #expect(outcome.status == 0)
        #expect(!outcome.output.contains(0x1B))
        #expect(!outcome.text.contains("\nlathe: all is well"))

        let checkpoint = try folder.copy(Fixtures.tiny, as: "checkpoint")
        try folder.write("{\"model_type\": \"a\\n\\u001b[2Jb\"}", to: "checkpoint/config.json")
        let refused = try await CommandLineTool.run("generate", "--model", checkpoint, "--ids", "1")
        refused.expectFailure("config.json", "not supported")
        #expect(!refused.errors.utf8.contains(0x1B))
    }
}
