import FoundationEssentials
import LatheFormat
import Testing

@testable import LatheCompiler

/// A checkpoint and what pruning makes of it, read back independently of the pruner.
final class PrunedFolder {
    let original: BentCheckpoint
    private let parent =
        FileManager.default.temporaryDirectory.path() + "lathe-pruned-\(UInt64.random(in: .min ... .max))"
    var output: String { "\(parent)/out" }

    init(_ name: String = "tiny-gpt2") throws {
        original = try BentCheckpoint(name)
        try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: parent) }

    @discardableResult
    func prune(
        _ options: PruningOptions, norms: ((String, Int) -> [Float])? = nil, as name: String = "out"
    ) throws -> PruningReport {
        try Pruner(options).prune(
            checkpoint: original.path, output: "\(parent)/\(name)",
            source: norms.map { FixedNorms(norms: $0) })
    }

    /// The error of a pruning that must leave nothing.
    func failure(_ options: PruningOptions, at location: SourceLocation = #_sourceLocation) throws -> LatheError {
        let before = try names()
        let error = try #require(throws: LatheError.self, sourceLocation: location) { try prune(options) }
        #expect(try names() == before, sourceLocation: location)
        #expect(error.message.hasSuffix("."), "\(error.message)", sourceLocation: location)
        return error
    }

    /// What stands beside the output, the output included.
    func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: parent).sorted() }

    func bytes(_ file: String, of name: String = "out") throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(filePath: "\(parent)/\(name)/\(file)")))
    }

    /// Every matrix [n][k] before and after, by parameter name.
    func matrices() throws -> [(name: String, before: [[Float]], after: [[Float]])] {
        let before = try Architectures.define(try Checkpoint(path: original.path)).weights
        let after = try Architectures.define(try Checkpoint(path: output)).weights
        return try zip(before, after).filter { $0.0.role == .matrix }.map {
            (name: $0.0.name, before: try Self.rows($0.0), after: try Self.rows($0.1))
        }
    }

    static func rows(_ source: WeightSource) throws -> [[Float]] {
        let floats = try source.entry.file.floats(of: source.entry.tensor.name).view
        let (n, k) = (source.shape[0], source.shape[1])
        return (0..<n).map { row in
            (0..<k).map { floats.load(source.isTransposed ? $0 * n + row : row * k + $0, as: Float.self) }
        }
    }
}

/// Norms that a test makes up, in the order of the model.
private struct FixedNorms: PruningCalibration {
    let tokenCount = 7
    let norms: (String, Int) -> [Float]

    func forEachProduct(
        of checkpoint: Checkpoint, _ decide: (_ weight: String, _ norms: [Float]) throws(LatheError) -> WeightMask?
    ) throws(LatheError) {
        for weight in try Architectures.define(checkpoint).weights where weight.role == .matrix && weight.isTransposed {
            _ = try decide(weight.name, norms(weight.name, weight.shape[1]))
        }
    }
}

extension [Float] {
    var zeros: Int { count { $0 == 0 } }
}

extension Selection {
    /// The mask of a whole matrix that is cut by itself.
    static func layer(_ scores: WeightScores, sparsity: Double) -> WeightMask {
        var mask = WeightMask(count: scores.count)
        var cut = scores.withKeys { SelectionCut(taking: zeros(sparsity, of: scores.count), of: $0) }
        apply(&cut, scores, at: 0, &mask)
        return mask
    }
}
