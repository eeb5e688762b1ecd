import FoundationEssentials
import Lathe
import LatheFormat
import Testing

@testable import LatheCompiler

/// Wanda over the float32 reference.
@Suite(.enabled(if: (try? BLAS.load()) != nil, "no OpenBLAS here"))
struct WandaTests {
    private static let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path()

    private func windows(_ count: Int, of length: Int, below vocabulary: UInt64) -> [[Int32]] {
        var random = SplitMix64(seed: 3)
        return (0..<count).map { _ in (0..<length).map { _ in Int32(random.next() % vocabulary) } }
    }

    /// Every product in turn, by float64 arithmetic over the inputs that the layers pruned so far give.
    @Test func layersArePrunedInOrderOnWhatThePrunedLayersGive() throws {
        let folder = try PrunedFolder()
        let windows = windows(3, of: 40, below: 101)
        let report = try Pruner(PruningOptions(sparsity: 0.5, criterion: .wanda))
            .prune(checkpoint: folder.original.path, output: folder.output, calibration: windows, threads: 2)
        // The inputs of the finished checkpoint are those that each layer was pruned on: all layers before it were done.
        let pruned = try Reference(checkpoint: try Checkpoint(path: folder.output), threads: 1)
        var norms: [String: [Double]] = [:]
        _ = try pruned.run(windows) { layer in
            norms[layer.weight.name] = (0..<layer.input.columns).map { column in
                (0..<layer.input.rows).reduce(0.0) {
                    $0 + Double(layer.input[$1, column]) * Double(layer.input[$1, column])
                }
                .squareRoot()
            }
            return nil
        }
        #expect(report.tensors.count == 8 && report.scope == "row")
        for (name, before, after) in try folder.matrices() where !report.excluded.contains(name) {
            let norms = try #require(norms[name])
            for (old, new) in zip(before, after) {
                let scores = zip(old, norms).map { Double($0.magnitude) * $1 }
                let went = zip(scores, new).filter { $0.1 == 0 }.map(\.0)
                let stayed = zip(scores, new).filter { $0.1 != 0 }.map(\.0)
                #expect(went.count == old.count / 2)
                #expect(went.max()! <= stayed.min()! * (1 + 1e-6), "\(name)")
            }
        }
    }

    /// The text changes what goes, the number of threads does not.
    @Test func onlyTheTextMatters() throws {
        let folder = try PrunedFolder()
        let texts = [windows(2, of: 16, below: 90), windows(2, of: 16, below: 90), windows(1, of: 30, below: 5)]
        var bytes: [[UInt8]] = []
        for (index, text) in texts.enumerated() {
            _ = try Pruner(PruningOptions(sparsity: 0.5, criterion: .wanda)).prune(
                checkpoint: folder.original.path, output: folder.output + "\(index)", calibration: text,
                threads: index + 1)
            bytes.append(try folder.bytes("model.safetensors", of: "out\(index)"))
        }
        #expect(bytes[0] == bytes[1] && bytes[0] != bytes[2])
    }

    /// What wanda is for: on the bundled model and a text, each layer's result is nearer than with magnitudes.
    @Test func outputErrorIsBelowThatOfMagnitude() throws {
        let novelist = "\(Self.package)/models/novelist"
        let text = try Files.read("\(Self.package)/Tests/Golden/novelist/passage.txt").array()
        let tokenizer = try Tokenizer(
            tables: try #require(try TokenizerCompiler.compile(folder: novelist)), source: novelist)
        let windows = try CalibrationText.windows(tokens: try tokenizer.encode(bytes: text), length: 128, count: 2)
        let checkpoint = try Checkpoint(path: novelist, access: .read)
        let reference = try Reference(checkpoint: checkpoint, threads: 2)
        var results: [String: [Double]] = [:]
        for criterion in [PruningOptions.Criterion.magnitude, .wanda] {
            let job = try PruningJob(checkpoint, PruningOptions(sparsity: 0.5, scope: .row, criterion: criterion))
            let source = ReferenceCalibration(windows: windows, threads: 2)
            let matrices = try job.decide(checkpoint, criterion == .wanda ? source : nil) { _ in }
            _ = try reference.run(windows) { layer throws(LatheError) in
                let name = layer.weight.name
                guard let mask = matrices.first(where: { $0.source.name == name })?.mask else { return nil }
                let whole = try reference.weight(name)
                var kept = whole
                mask.apply(to: &kept)
                results[name, default: []].append(relativeError(layer.input, whole, kept, reference))
                return nil
            }
        }
        #expect(results.count == 24)
        for (name, errors) in results { #expect(errors[1] < errors[0], "\(name): \(errors)") }
    }

    /// ‖X(W − Ŵ)ᵀ‖ / ‖XWᵀ‖.
    private func relativeError(
        _ input: FloatMatrix, _ whole: FloatMatrix, _ kept: FloatMatrix, _ reference: Reference
    ) -> Double {
        let results = [whole, kept].map {
            Reference.linear(
                input, .init(matrix: $0, isTransposed: false), nil, blas: reference.blas, threads: 2
            ).elements
        }
        let error = zip(results[0], results[1]).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
        return (error / results[0].reduce(0.0) { $0 + Double($1) * Double($1) }).squareRoot()
    }
}
