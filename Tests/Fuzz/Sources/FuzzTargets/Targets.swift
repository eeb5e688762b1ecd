import Dispatch
import Foundation

@testable import Lathe
@testable import LatheCompiler
@testable import LatheFormat

/// Each takes any bytes and must come back: an error is fine, a trap is not.
let targets: [String: @Sendable ([UInt8]) -> Void] = [
    "json": fuzzJSON, "safetensors": fuzzSafetensors, "lathe": fuzzLatheFile, "tokenizer": fuzzTokenizer,
    "config": fuzzConfiguration, "graph": fuzzGraph,
]

/// What is parsed is written and parsed again: the same value.
@Sendable private func fuzzJSON(_ bytes: [UInt8]) {
    guard let value = try? JSON.parse(bytes, source: "input") else { return }
    let again = try? JSON.parse(value.serializedBytes(), source: "output")
    precondition(again == value, "a value changed on its way")
}

/// The header is read, and every tensor as numbers.
@Sendable private func fuzzSafetensors(_ bytes: [UInt8]) {
    guard let mapped = memoryFile(bytes), let file = try? SafetensorsFile.open(mapped: mapped) else { return }
    for tensor in file.tensors {
        precondition(tensor.fileOffset + tensor.byteCount <= bytes.count)
        _ = try? file.floats(of: tensor.name)
    }
}

/// A model file, whose header checksum is mended first: else no mutation would come further than that. What is accepted
/// is computed with.
@Sendable private func fuzzLatheFile(_ bytes: [UInt8]) {
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
@Sendable private func fuzzTokenizer(_ bytes: [UInt8]) {
    guard let json = try? JSON.parse(bytes, source: "input"), case .object(let object) = json,
        let description = try? TokenizerJSON(object, source: "input").description(),
        let tables = try? TokenizerTableBuilder(description, limit: nil).tables()
    else { return }
    let tokenizer = try! Tokenizer(tables: tables, source: "input")
    let text = String(decoding: bytes.suffix(512), as: UTF8.self)
    _ = try! tokenizer.decode(tokenizer.encode(text))
}

/// config.json beside weights that do not change, up to what is decided before the first weight is read.
@Sendable private func fuzzConfiguration(_ bytes: [UInt8]) {
    guard let json = try? JSON.parse(bytes, source: "input"), case .object(let object) = json else { return }
    let checkpoint = Checkpoint(
        path: Seeds.scratch.path, configuration: object, generationConfiguration: nil, weights: weights)
    guard let definition = try? Architectures.define(checkpoint) else { return }
    let graph = Graph(
        parameters: definition.weights.map {
            Parameter(name: $0.name, shape: $0.shape, encoding: $0.role == .matrix ? .qc8w : .rows)
        }, values: definition.values, entryPoints: definition.entryPoints)
    // What is defined may still be refused, but not trap.
    _ = try? graph.validate(against: definition.configuration, source: "input")
    _ = ModelFile.metadata(
        configuration: definition.configuration, graph: graph, recipe: .null, tokenizer: nil)
}

private let weights = try! CheckpointWeights(folder: Seeds.scratch.path, access: .mapped)

/// Configuration and graph as a `.lathe` file's header has them; then the plan that the engine makes of them.
@Sendable private func fuzzGraph(_ bytes: [UInt8]) {
    guard let json = try? JSON.parse(bytes, source: "input"), case .object(let object) = json,
        let configuration = try? ModelConfiguration(json: object["configuration"] ?? .null, source: "input"),
        let graph = try? Graph(json: object["graph"] ?? .null, source: "input"),
        (try? graph.validate(against: configuration, source: "input")) != nil
    else { return }
    let again = try? Graph(json: graph.json, source: "output")
    precondition(again == graph, "a graph changed on its way")
    _ = graph.parameters.flatMap(\.parts).map { TensorDeclaration(name: $0.name, dtype: $0.dtype, shape: $0.shape) }
}

private func memoryFile(_ bytes: [UInt8]) -> MappedFile? {
    do {
        let file = try AtomicFile(.memory(name: "input"))
        try file.append(ByteView(copying: bytes))
        return try file.finish()
    } catch { return nil }
}
