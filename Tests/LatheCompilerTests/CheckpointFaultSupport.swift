import FoundationEssentials
import LatheFormat
import Testing

@testable import LatheCompiler

/// A copy of a golden checkpoint to bend, removed with the value.
final class BentCheckpoint {
    let path = FileManager.default.temporaryDirectory.path() + "lathe-checkpoint-\(UInt64.random(in: .min ... .max))"

    /// - Parameter name: `tiny-gpt2` (one file, float32, 101 tokens, width 32, 2 layers) or `odd-gpt2` (two shards).
    init(_ name: String = "tiny-gpt2") throws {
        let golden = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path()
        try FileManager.default.copyItem(atPath: "\(golden)/Golden/\(name)", toPath: path)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    /// What is in the folder.
    func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }

    func write(_ text: String, to name: String) throws {
        try Data(text.utf8).write(to: URL(filePath: file(name)))
    }

    /// Replaces or, with nil, removes a field of a JSON file.
    func change(in name: String = "config.json", _ path: [String], to value: JSON?) throws {
        let json = try JSON.parse(path: file(name)).replacing(path, with: value)
        try write(json.serialized(), to: name)
    }

    struct Tensor {
        var name: String
        var dtype: DType
        var shape: [Int]
        var bytes: [UInt8]
    }

    /// Rewrites a weights file after `body` has changed its tensors.
    func changeTensors(of name: String = "model.safetensors", _ body: (inout [Tensor]) throws -> Void) throws {
        let old = try SafetensorsFile.open(path: file(name), access: .read)
        var tensors: [Tensor] = []
        for tensor in old.tensors {
            tensors.append(
                Tensor(
                    name: tensor.name, dtype: tensor.dtype, shape: tensor.shape,
                    bytes: try old.bytes(of: tensor.name).array()))
        }
        try body(&tensors)
        let writer = try SafetensorsWriter(
            .path(file(name)), tensors: tensors.map { .init(name: $0.name, dtype: $0.dtype, shape: $0.shape) })
        for tensor in tensors { try writer.write(ByteView(copying: tensor.bytes)) }
        try writer.finish()
    }

    /// Rewrites one tensor of model.safetensors.
    func changeTensor(_ name: String, _ body: (inout Tensor) -> Void) throws {
        try changeTensors { tensors in
            let position = try #require(tensors.firstIndex { $0.name == name })
            body(&tensors[position])
        }
    }

    /// The error of converting to a file; nothing may stand at the output, nor beside it.
    func failure(_ weights: WeightFormats = .int8, at location: SourceLocation = #_sourceLocation) throws -> LatheError
    {
        let names = try names()
        let error = try #require(throws: LatheError.self, sourceLocation: location) {
            try Compiler(weights: weights).compile(checkpoint: path, output: file("out.lathe"))
        }
        #expect(try self.names() == names, sourceLocation: location)
        #expect(error.message.hasSuffix("."), "\(error.message)", sourceLocation: location)
        return error
    }

    /// Converts and opens what was written.
    @discardableResult
    func convert(_ weights: WeightFormats = .int8) throws -> (CompilationReport, ModelFile) {
        let report = try Compiler(weights: weights).compile(checkpoint: path, output: file("out.lathe"))
        return (report, try ModelFile.open(path: file("out.lathe"), verify: true))
    }
}

extension LatheError {
    /// Whether the message names each of `words`.
    func names(_ words: String...) -> Bool { words.allSatisfy { message.contains($0) } }
}
