import LatheFormat
import Testing

@testable import LatheCompiler

/// Which weights go, and that the others stay as they are.
@Suite struct PruningTests {
    /// Zeros stand where they must, all else has its bits.
    private func expectOnlyZeros(_ before: [[Float]], _ after: [[Float]]) {
        for (old, new) in zip(before.joined(), after.joined()) where new != 0 {
            #expect(new.bitPattern == old.bitPattern)
        }
    }

    /// No weight that went is greater than one that stayed.
    private func expectLeastWent(_ before: [Float], _ after: [Float]) {
        let pairs = zip(before, after)
        let went = pairs.filter { $0.1 == 0 }.map { $0.0.magnitude }.max() ?? 0
        let stayed = pairs.filter { $0.1 != 0 }.map { $0.0.magnitude }.min() ?? .infinity
        #expect(went <= stayed)
    }

    @Test(arguments: ["tiny-gpt2", "odd-gpt2", "gelu-gpt2"], [0, 0.1, 0.5, 0.77, 0.999])
    func layersHaveTheSparsityAskedFor(name: String, sparsity: Double) throws {
        let folder = try PrunedFolder(name)
        let report = try folder.prune(PruningOptions(sparsity: sparsity))
        let pruned = Set(report.tensors.map(\.name))
        #expect(report.excluded.contains("wte.weight") && !pruned.isEmpty && report.scope == "layer")
        for (name, before, after) in try folder.matrices() {
            guard pruned.contains(name) else {
                #expect(before == after)
                continue
            }
            let (old, new) = (Array(before.joined()), Array(after.joined()))
            let expected = max(old.zeros, Int((sparsity * Double(old.count)).rounded()))
            #expect(new.zeros == expected)
            expectOnlyZeros(before, after)
            expectLeastWent(old, new)
            let told = try #require(report.tensors.first { $0.name == name })
            #expect(told.zeros == expected && told.zerosBefore == old.zeros && told.count == old.count)
            #expect(told.shape == [before.count, before[0].count])
        }
    }

    @Test(arguments: [0.1, 0.5, 0.9])
    func rowsHaveTheSparsityAskedFor(sparsity: Double) throws {
        let folder = try PrunedFolder()
        let report = try folder.prune(PruningOptions(sparsity: sparsity, scope: .row))
        for (name, before, after) in try folder.matrices() where !report.excluded.contains(name) {
            expectOnlyZeros(before, after)
            for (old, new) in zip(before, after) {
                #expect(new.zeros == Int((sparsity * Double(old.count)).rounded()))
                expectLeastWent(old, new)
            }
        }
    }

    @Test(arguments: [0.25, 0.5, 0.9])
    func allTogetherHaveTheSparsityAskedFor(sparsity: Double) throws {
        let folder = try PrunedFolder()
        let report = try folder.prune(PruningOptions(sparsity: sparsity, scope: .global))
        let matrices = try folder.matrices().filter { !report.excluded.contains($0.name) }
        let old = matrices.flatMap { $0.before.joined() }
        let new = matrices.flatMap { $0.after.joined() }
        #expect(new.zeros == Int((sparsity * Double(old.count)).rounded()) && new.zeros == report.zeros)
        expectLeastWent(old, new)
        // Not every matrix has the same share: else nothing of this was global.
        #expect(Set(report.tensors.map { Int($0.sparsity * 1000) }).count > 1)
    }

    /// |w|·‖x‖ of each output, in float64.
    @Test(arguments: [PruningOptions.Scope.row, .layer])
    func wandaComparesWeightsTimesTheNormsOfTheirInputs(scope: PruningOptions.Scope) throws {
        let folder = try PrunedFolder("odd-gpt2")
        // From 1 to far beyond the spread of the weights, so that magnitudes alone would choose otherwise.
        func norms(_ name: String, _ depth: Int) -> [Float] {
            (0..<depth).map { 1 + Float(($0 &* 2_654_435_761 &+ name.utf8.count) % 97) }
        }
        let report = try folder.prune(
            PruningOptions(sparsity: 0.5, scope: scope == .row ? nil : scope, criterion: .wanda), norms: norms)
        #expect(report.scope == scope.rawValue)
        for (name, before, after) in try folder.matrices() where !report.excluded.contains(name) {
            expectOnlyZeros(before, after)
            let norms = norms(name, before[0].count).map(Double.init)
            let scores = before.map { row in zip(row, norms).map { Double($0.magnitude) * $1 } }
            let groups =
                scope == .row
                ? Array(zip(scores, after)) : [(Array(scores.joined()), Array(after.joined()))]
            for (scores, after) in groups {
                #expect(after.zeros == Int((0.5 * Double(after.count)).rounded()))
                let went = zip(scores, after).filter { $0.1 == 0 }.map(\.0).max()!
                let stayed = zip(scores, after).filter { $0.1 != 0 }.map(\.0).min()!
                // Scores are compared as float32: two within its rounding may change places.
                #expect(went <= stayed * (1 + 2e-7), "\(name)")
            }
        }
        let pruning = try #require(try Checkpoint(path: folder.output).weights.files[0].metadata["lathe.pruning"])
        #expect(pruning.contains(#""criterion":"wanda""#) && pruning.contains(#""calibration_tokens":7"#))
    }

    /// A norm of zero makes a weight worthless, not absent: what is zero already goes before it.
    @Test func inputsThatAreNeverUsedGoAfterZeros() {
        #expect(WeightScores.key(0, norm: 3) == 0 && WeightScores.key(-0.0, norm: 3) == 0)
        #expect(WeightScores.key(1, norm: 0) == 1 && WeightScores.key(-Float.leastNonzeroMagnitude, norm: 1e-3) == 1)
        #expect(WeightScores.key(-2, norm: 1) == Float(2).bitPattern)
        #expect(WeightScores.key(3e38, norm: 3e38) > WeightScores.key(3e38, norm: 1))
    }

    @Test func equalWeightsGoInOrder() throws {
        let scores = WeightScores(rows: 2, depth: 8, keys: [5, 5, 5, 5, 0, 5, 5, 5, 5, 9, 1, 5, 5, 5, 5, 5])
        let layer = Selection.layer(scores, sparsity: 0.5)
        // The zero and the least go, then fives from the front up to half of all.
        let gone = [0, 1, 2, 3, 4, 5, 6, 10]
        #expect((0..<16).filter { !layer[$0] } == gone)
    }

    @Test func existingZerosGoFirstAndAreNeverFilled() throws {
        let folder = try PrunedFolder()
        let name = "transformer.h.0.attn.c_attn.weight"
        try folder.original.changeTensor(name) { tensor in
            // Every other weight, as −0: still a zero.
            for element in stride(from: 0, to: tensor.bytes.count / 4, by: 2) {
                tensor.bytes.replaceSubrange(element * 4..<element * 4 + 4, with: [0, 0, 0, 0x80])
            }
        }
        let report = try folder.prune(PruningOptions(sparsity: 0.25))
        let told = try #require(report.tensors.first { $0.name == "h.0.attn.c_attn.weight" })
        #expect(told.zeros == told.count / 2 && told.zerosBefore == told.count / 2)
        #expect(report.tensors.filter { $0.sparsity == 0.25 }.count == report.tensors.count - 1)
        for (name, before, after) in try folder.matrices() where name == told.name { expectOnlyZeros(before, after) }
    }

    @Test(arguments: [(2, 4), (1, 2), (1, 4), (5, 8), (3, 16)])
    func groupsKeepNOfM(kept: Int, size: Int) throws {
        let folder = try PrunedFolder()
        let report = try folder.prune(PruningOptions(pattern: .group(kept: kept, size: size)))
        #expect(report.scope == "group" && report.sparsity == 1 - Double(kept) / Double(size))
        for (name, before, after) in try folder.matrices() where !report.excluded.contains(name) {
            expectOnlyZeros(before, after)
            for (old, new) in zip(before, after) {
                for start in stride(from: 0, to: old.count, by: size) {
                    let range = start..<start + size
                    #expect(Array(new[range]).zeros == size - kept)
                    expectLeastWent(Array(old[range]), Array(new[range]))
                }
            }
        }
    }

    /// The halves of every block of 16 outputs × 8 inputs keep as many, at nearly no cost in zeros.
    @Test(arguments: [PruningOptions.Scope.layer, .row, .global], [0.3, 0.5, 0.8])
    func pairsAreBalanced(scope: PruningOptions.Scope, sparsity: Double) throws {
        let folder = try PrunedFolder()
        let plain = try folder.prune(PruningOptions(sparsity: sparsity, scope: scope), as: "plain")
        let report = try folder.prune(PruningOptions(sparsity: sparsity, scope: scope, balancesPairs: true))
        for (name, before, after) in try folder.matrices() where !report.excluded.contains(name) {
            expectOnlyZeros(before, after)
            var unbalancedBefore = 0
            for top in stride(from: 0, to: after.count, by: 16) {
                for left in stride(from: 0, to: after[0].count, by: 8) {
                    let halves = [left, left + 4].map { start in
                        after[top..<min(top + 16, after.count)].flatMap { $0[start..<start + 4] }
                    }
                    #expect(halves[0].zeros == halves[1].zeros)
                    unbalancedBefore += 1
                }
            }
            let (told, other) = try (
                #require(report.tensors.first { $0.name == name }), #require(plain.tensors.first { $0.name == name })
            )
            #expect(unbalancedBefore > 0 && abs(told.zeros - other.zeros) <= 1)
            let loss = try #require(told.balanceLoss)
            #expect(loss < 0.05 && (scope == .row || loss > 0))
            #expect(other.balanceLoss == nil)
        }
    }

    /// Outputs that fill no panel, inputs that end within a pair, and zeros that were there.
    @Test func unevenPairsAreBalancedAsFarAsTheyGo() throws {
        var random = SplitMix64(seed: 5)
        for depth in [1, 4, 5, 11, 16] {
            let keys = (0..<19 * depth).map { _ in UInt32(random.next() % 3 == 0 ? 0 : random.next() % 100) }
            let scores = WeightScores(rows: 19, depth: depth, keys: keys)
            var mask = Selection.layer(scores, sparsity: 0.6)
            let before = mask.keptCount
            var balance = PairBalance()
            balance.balance(&mask, scores)
            #expect(abs(mask.keptCount - before) <= 1)
            for index in keys.indices where keys[index] == 0 { #expect(!mask[index]) }
            for top in stride(from: 0, to: 19, by: 16) {
                for left in stride(from: 0, to: depth, by: 8) {
                    var (kept, all) = ([0, 0], [0, 0])
                    for row in top..<min(top + 16, 19) {
                        for input in left..<min(left + 8, depth) {
                            let half = (input - left) / 4
                            kept[half] += mask[row * depth + input] ? 1 : 0
                            all[half] += keys[row * depth + input] == 0 ? 0 : 1
                        }
                    }
                    let fuller = kept[0] > kept[1] ? 0 : 1
                    #expect(kept[0] == kept[1] || kept[1 - fuller] == all[1 - fuller])
                }
            }
        }
    }

    @Test func patternsExcludeAndEmbeddingsAreIncludedOnRequest() throws {
        let folder = try PrunedFolder()
        let report = try folder.prune(
            PruningOptions(sparsity: 0.5, excluded: ["h.1", "c_fc"], includesEmbeddings: true))
        #expect(
            report.tensors.map(\.name)
                == ["wte.weight", "h.0.attn.c_attn.weight", "h.0.attn.c_proj.weight", "h.0.mlp.c_proj.weight"])
        #expect(report.excluded.count == 5)
        for (name, before, after) in try folder.matrices() {
            #expect((before == after) == report.excluded.contains(name), "\(name)")
        }
    }

    /// The same selection as sorting does, on keys of all kinds.
    @Test func selectionIsThatOfASort() {
        var random = SplitMix64(seed: 1)
        for round in 0..<60 {
            let spread: UInt64 = [1, 2, 300, 70_000, 1 << 31][round % 5]
            let keys = (0..<(1 + round * 7)).map { _ in UInt32(random.next() % spread) }
            for count in [0, 1, keys.count / 3, keys.count] where count <= keys.count {
                var cut = SelectionCut(taking: count, of: keys.span)
                let taken = keys.indices.filter { cut.takes(keys[$0]) }
                let sorted = keys.indices.sorted { (keys[$0], $0) < (keys[$1], $1) }.prefix(count)
                #expect(taken == sorted.sorted())
            }
        }
    }
}
