import FoundationEssentials
import Lathe
import LatheCompiler
import LatheFormat

/// What an engine is made to do while it is counted.
struct Workload: Sendable {
    let promptLength: Int
    let tokenCount: Int

    struct Task: Sendable {
        let name: String
        /// nil: the prompt is scored, not continued.
        let options: GenerationOptions?

        /// A continuation by each way to choose a token; and the scoring of a text.
        static let all = [
            Task("greedy") { _ in },
            Task("sampled") {
                $0.temperature = 0.9
                $0.topP = 0.9
            },
            // Nearly the whole vocabulary is ordered.
            Task("hot") {
                $0.temperature = 100
                $0.topK = 2000
                $0.minP = 0.01
            },
            Task("penalized") {
                $0.temperature = 0.7
                $0.repetitionPenalty = 1.3
            },
            Task("looked up") { $0.promptLookup = 5 },
            Task(name: "scored", options: nil),
        ]

        private init(_ name: String, _ change: (inout GenerationOptions) -> Void) {
            var options = GenerationOptions()
            options.ignoresEndOfText = true
            options.seed = 5
            change(&options)
            self.init(name: name, options: options)
        }

        private init(name: String, options: GenerationOptions?) {
            self.name = name
            self.options = options
        }
    }

    /// Runs `task` in new sessions, all at once.
    func run(_ task: Task, _ engine: Engine, sessions: Int) async throws {
        let vocabulary = engine.model.configuration.vocabularySize
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<sessions {
                let prompt = (0..<promptLength).map { Int32(($0 * 7919 + number * 31) % vocabulary) }
                let session = try engine.makeSession()
                group.addTask { [tokenCount] in
                    guard var options = task.options else {
                        _ = try await session.score(prompt)
                        return
                    }
                    options.maximumTokens = tokenCount
                    for try await _ in try session.generate(prompt, options: options) {}
                }
            }
            try await group.waitForAll()
        }
    }
}

extension Model {
    /// - Parameter weights: f32, int8 or int4, or int8-sparse or int4-sparse.
    static func compiled(_ checkpoint: String, weights: String) throws -> Model {
        let words = weights.split(separator: "-")
        guard let format = WeightFormats(named: String(words[0])) else {
            throw LatheError(.invalidRequest, "There are no weights \(weights).")
        }
        let recipe = Recipe(weights: format, sparse: words.count > 1 ? .on : .off)
        let file = try Compiler(recipe: recipe).compileInMemory(checkpoint: checkpoint)
        return try Model(file: try ModelFile.open(mapped: file, verify: false))
    }

    /// A random model whose sizes are no multiples of anything and whose vocabulary is worth a radix sort.
    static func synthetic(weights: String) throws -> Model {
        let folder = FileManager.default.temporaryDirectory.path() + "lathe-probe-\(UInt64.random(in: .min ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let configuration: JSON = [
            "model_type": "gpt2", "activation_function": "gelu_new", "vocab_size": 2503, "n_positions": 400,
            "n_embd": 42, "n_layer": 2, "n_head": 2, "layer_norm_epsilon": 1e-5, "bos_token_id": 7,
            "eos_token_id": 130, "tie_word_embeddings": true,
        ]
        try Data(configuration.serializedBytes()).write(to: URL(filePath: "\(folder)/source.json"))
        try SyntheticCheckpoint(named: "\(folder)/source.json", seed: 5).write(to: folder)
        return try compiled(folder, weights: weights)
    }
}
