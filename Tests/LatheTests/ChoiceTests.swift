import CKernels
import Testing

@testable import Lathe

/// A choice orders as little as it must; it is compared, token by token, with one that orders every candidate and adds one
/// after another, as docs/ARITHMETIC.md says.
@Suite struct ChoiceTests {
    private struct Definition {
        private let ids: [Int32]
        private let weights: [Float]
        /// Each weight's with those before it.
        private let sums: [Float]

        init(_ logits: [Float], temperature: Float) {
            let best = logits.max()!
            var ranked = RankedKeys(capacity: logits.count)
            for (id, logit) in logits.enumerated() where logit >= best - 18 * temperature {
                ranked.append(rank: ((logit - best) / temperature).magnitude.bitPattern, id: UInt32(id))
            }
            ranked.sort()
            ids = ranked.keys.map { Int32(truncatingIfNeeded: $0) }
            weights = ranked.keys.map { lathe_exp(-Float(bitPattern: UInt32($0 >> 32))) }
            var sum: Float = 0
            sums = weights.map {
                sum += $0
                return sum
            }
        }

        func choose(_ options: GenerationOptions, random: Float) -> Int32 {
            var count = min(ids.count, options.topK ?? .max)
            if let topP = options.topP, topP < 1 {
                let target = topP * sums[count - 1]
                count = sums[..<count].firstIndex { $0 >= target }! + 1
            }
            if let minP = options.minP, let first = weights[..<count].firstIndex(where: { $0 < minP }) {
                count = max(1, first)
            }
            let target = random * sums[count - 1]
            return ids[sums[..<count].firstIndex { $0 > target } ?? count - 1]
        }
    }

    enum Shape: CaseIterable, Sendable {
        case flat, ordinary, steep, tied, equal, huge

        func logits(_ count: Int, _ random: inout SeededRandom) -> [Float] {
            switch self {
            case .flat: return random.floats(count, in: -1...1)
            case .ordinary:
                // The sum of four is bell-shaped; a few tokens stand out.
                let parts = (0..<4).map { _ in random.floats(count, in: -3...3) }
                return (0..<count).map { id in parts.reduce(0) { $0 + $1[id] } + (id % 997 == 5 ? 9 : 0) - 30 }
            case .steep: return random.floats(count, in: -40...0)
            case .tied: return random.floats(count, in: -6...6).map { $0.rounded() }
            case .equal: return [Float](repeating: 2.5, count: count)
            case .huge: return random.floats(count, in: -1...1).map { $0 * .greatestFiniteMagnitude }
            }
        }
    }

    @Test(arguments: InstructionSet.available, Shape.allCases)
    func choosesAsIfAllWereOrdered(level: InstructionSet, shape: Shape) throws {
        var random = SeededRandom(seed: 11)
        for count in [1, 3, 17, 130, 2503, 12_011] {
            var buffers = SamplingBuffers(vocabularySize: count, instructionSet: level)
            let logits = shape.logits(count, &random)
            let likeliest = logits.firstIndex(of: logits.max()!)!
            for temperature: Float in [1, 0.6, 3, 1e-30, .greatestFiniteMagnitude] {
                let definition = Definition(logits, temperature: temperature)
                for (topK, topP, minP) in SamplerTests.truncations {
                    let options = GenerationOptions(1) {
                        ($0.temperature, $0.topK, $0.topP, $0.minP) = (temperature, topK, topP, minP)
                    }
                    for number in [0, random.floats(1, in: 0...1)[0] * 0.999, 1 - 0x1p-24] as [Float] {
                        let chosen = buffers.choose(logits.span, likeliest: likeliest, options, random: number)
                        #expect(
                            chosen == definition.choose(options, random: number),
                            "\(count) tokens, temperature \(temperature), \(topK ?? 0), \(topP ?? 1), \(minP ?? 0)")
                    }
                }
            }
        }
    }

    /// The copy that a penalty changes lies in the choice's own memory.
    @Test func choosesFromACopy() {
        var random = SeededRandom(seed: 12)
        var logits = Shape.ordinary.logits(5000, &random)
        let options = GenerationOptions(1) { $0.temperature = 1 }
        var buffers = SamplingBuffers(vocabularySize: logits.count)
        for number in random.floats(20, in: 0...0.999) {
            buffers.copy(logits.span)
            buffers.withCopy { $0[17] = -28 }
            logits[17] = -28
            let definition = Definition(logits, temperature: 1)
            let likeliest = buffers.likeliestOfCopy()
            #expect(likeliest == logits.firstIndex(of: logits.max()!))
            let chosen = buffers.chooseFromCopy(likeliest: likeliest, options, random: number)
            #expect(chosen == definition.choose(options, random: number))
        }
    }
}
