import FoundationEssentials
import Lathe
import LatheCompiler
import LatheFormat
import Synchronization

/// The checkpoints that tests run, each compiled once in memory.
enum TestModels {
    /// The package's own folder.
    static let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().path()
    static let golden = "\(package)/Tests/Golden"

    /// Checkpoints of a few kilobytes with references of an outside witness.
    static let tiny = ["tiny-gpt2", "odd-gpt2", "gelu-gpt2"]

    /// Loads a checkpoint by name; the same object every time.
    static func model(
        _ name: String, _ weights: WeightFormats = .float32, sparse: SparseStorage = .auto
    ) throws -> Model {
        try cache.withLock { cache in
            let key = "\(name) \(weights) \(sparse)"
            if let model = cache[key] { return model }
            let compiler = Compiler(recipe: Recipe(weights: weights, sparse: sparse))
            let file = try withFolder(name) { try compiler.compileInMemory(checkpoint: $0) }
            let model = try Model(file: try ModelFile.open(mapped: file, verify: true))
            cache[key] = model
            return model
        }
    }

    private static let cache = Mutex<[String: Model]>([:])

    private static func withFolder<R>(_ name: String, _ body: (String) throws -> R) throws -> R {
        switch name {
        case "novelist": try body("\(package)/models/novelist")
        case "long": try withLongCheckpoint(body)
        default: try body("\(golden)/\(name)")
        }
    }

    /// A synthetic checkpoint whose context spans several blocks of the KV cache and the attention's split at 256, and
    /// whose sizes are no multiples of anything.
    private static func withLongCheckpoint<R>(_ body: (String) throws -> R) throws -> R {
        let folder = FileManager.default.temporaryDirectory.path() + "lathe-long-\(UInt64.random(in: .min ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let configuration: JSON = [
            "model_type": "gpt2", "activation_function": "gelu_new", "vocab_size": 131, "n_positions": 301,
            "n_embd": 42, "n_layer": 2, "n_head": 2, "layer_norm_epsilon": 1e-5, "bos_token_id": 7,
            "eos_token_id": 130, "tie_word_embeddings": true,
        ]
        try Data(configuration.serializedBytes()).write(to: URL(filePath: "\(folder)/source.json"))
        try SyntheticCheckpoint(named: "\(folder)/source.json", seed: 5).write(to: folder)
        return try body(folder)
    }

    /// A text of the model: that of its reference, or seeded ids where it has none.
    static func tokens(_ name: String) throws -> [Int32] {
        if name != "long" { return try GoldenReference(name).ids }
        var random = SeededRandom(seed: 11)
        return (0..<301).map { _ in Int32.random(in: 0..<131, using: &random) }
    }
}

/// `expected.json` of a checkpoint: see Tests/Golden/README.md.
struct GoldenReference {
    let ids: [Int32]
    /// nil for the first.
    let logProbabilities: [Float?]
    let promptIDs: [Int32]
    let greedyIDs: [Int32]
    /// With the checkpoint's own end-of-text ids honoured; nil for novelist.
    let generated: (ids: [Int32], finishReason: String)?
    /// The positions that the logits file has; nil: all.
    let positions: [Int]
    /// [positions][vocabulary]
    let logits: [[Float]]

    init(_ name: String) throws {
        let folder = "\(TestModels.golden)/\(name)" + (name == "novelist" ? "" : "/expected")
        let path = "\(folder)/expected.json"
        let object = try JSON.parse(path: path).object(at: path)
        func ints(_ object: JSONObject, _ key: String) throws -> [Int32] {
            try object.array(key, in: path).map { Int32(try $0.int(at: path)) }
        }
        ids = try ints(object, "ids")
        logProbabilities = try object.array("logprobs", in: path).map {
            $0 == .null ? nil : Float(try $0.double(at: path))
        }
        promptIDs = try ints(object, "prompt_ids")
        greedyIDs = try ints(object, "greedy_ids")
        generated = try object.objectIfPresent("generated", in: path).map {
            (try ints($0, "ids"), try $0.string("finish_reason", in: path))
        }
        let file = try SafetensorsFile.open(path: "\(folder)/logits.safetensors")
        let shape = try file.tensor("logits").shape
        let values = try file.bytes(of: "logits")
        logits = (0..<shape[0]).map { row in
            (0..<shape[1]).map { values.load(row * shape[1] + $0, as: Float.self) }
        }
        if file["positions"] != nil {
            let stored = try file.bytes(of: "positions")
            positions = (0..<shape[0]).map { Int(stored.load($0, as: Int32.self)) }
        } else {
            positions = Array(0..<shape[0])
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers in every run.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word >> 31
    }

    mutating func floats(_ count: Int, in range: ClosedRange<Float> = -1...1) -> [Float] {
        (0..<count).map { _ in Float.random(in: range, using: &self) }
    }
}
