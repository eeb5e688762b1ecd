import Dispatch
import Foundation
@testable import Lathe
@testable import LatheCompiler
@testable import LatheFormat

/// Each takes any bytes and must come back: an error is fine, a trap is not.
let targets: [String: ([UInt8]) -> Void] = [
    "json": fuzzJSON, "safetensors": fuzzSafetensors, "lathe": fuzzLatheFile, "tokenizer": fuzzTokenizer,
    "config": fuzzConfiguration,
]

/// What is parsed is written and parsed again: the same value.
private func fuzzJSON(_ bytes: [UInt8]) {
    guard let value = try? JSON.parse(bytes, source: "input") else { return }
    let again = try? JSON.parse(value.serializedBytes(), source: "output")
    precondition(again == value, "a value changed on its way")
}

/// The header is read, and every tensor as numbers.
private func fuzzSafetensors(_ bytes: [UInt8]) {
    guard let mapped = memoryFile(bytes), let file = try? SafetensorsFile.open(mapped: mapped) else { return }
    for tensor in file.tensors {
        precondition(tensor.fileOffset + tensor.byteCount <= bytes.count)
        _ = try? file.floats(of: tensor.name)
    }
}

/// A model file, whose header checksum is mended first: else no mutation would come further than that. What is accepted
/// is computed with.
private func fuzzLatheFile(_ bytes: [UInt8]) {
    guard let mapped = memoryFile(mended(bytes)), let file = try? ModelFile.open(mapped: mapped, verify: false),
        let model = try? Model(file: file)
    else { return }
    if let tokenizer = model.tokenizer {
        let ids = tokenizer.encode("It was a dark night,\n  and 12 caf\u{E9}s \u{1F600}")
        _ = try? tokenizer.decode(ids)
    }
    var options = EngineOptions()
    options.threads = 1
    // A file may say that its context is long; memory for it is another matter.
    options.contextLength = min(64, model.configuration.contextLength)
    options.instructionSet = "scalar"
    guard let session = try? Engine(model: model, options: options).makeSession() else { return }
    let done = DispatchSemaphore(value: 0)
    Task.detached {
        _ = try? await session.score([0, Int32(model.configuration.vocabularySize - 1), 0])
        done.signal()
    }
    done.wait()
}

private func mended(_ bytes: [UInt8]) -> [UInt8] {
    let offset = LatheLayout.headerChecksumOffset
    guard bytes.count > offset + LatheLayout.checksumDigits,
        let header = try? SafetensorsHeader.length(
            start: ByteView(copying: bytes), fileByteCount: bytes.count, source: "input"),
        8 + header >= offset + LatheLayout.checksumDigits
    else { return bytes }
    let checksum = LatheLayout.headerChecksum(ByteView(copying: bytes[..<(8 + header)]))
    var bytes = bytes
    bytes.replaceSubrange(offset..<offset + LatheLayout.checksumDigits, with: hexadecimal(checksum).utf8)
    return bytes
}

/// tokenizer.json, then text through the tokenizer that it describes. The text is the end of the input itself.
private func fuzzTokenizer(_ bytes: [UInt8]) {
    guard let json = try? JSON.parse(bytes, source: "input"), case .object(let object) = json,
        let description = try? TokenizerJSON(object, source: "input").description(),
        let tables = try? TokenizerTableBuilder(description, limit: nil).tables()
    else { return }
    let tokenizer = try! Tokenizer(tables: tables, source: "input")
    let text = String(decoding: bytes.suffix(512), as: UTF8.self)
    _ = try! tokenizer.decode(tokenizer.encode(text))
}

/// config.json beside weights that do not change, up to what is decided before the first weight is read.
private func fuzzConfiguration(_ bytes: [UInt8]) {
    try! Data(bytes).write(to: Seeds.scratch.appendingPathComponent("config.json"))
    guard let checkpoint = try? Checkpoint(path: Seeds.scratch.path) else { return }
    _ = try? CompilationJob(checkpoint: checkpoint, format: .int8, threads: 1, sourceHash: nil)
}

private func memoryFile(_ bytes: [UInt8]) -> MappedFile? {
    do {
        let file = try AtomicFile(.memory(name: "input"))
        try file.append(ByteView(copying: bytes))
        return try file.finish()
    } catch { return nil }
}
