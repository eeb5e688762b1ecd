import CKernels
import Testing

/// What a choice of a token is made of: the bits of the definitions, and those are what their contract says.
@Suite struct VectorChoiceTests {
    static let counts = [1, 2, 15, 16, 17, 33, 64, 1000, 1023]

    private func logits(_ count: Int, _ data: TestData) -> [Float] {
        var generator = SeededGenerator(seed: UInt64(count))
        return data.floats(count, using: &generator).map { $0 * 9 }
    }

    // MARK: - Candidates

    @Test(arguments: VectorKernels.names, TestData.allCases)
    func candidates(kernel name: String, data: TestData) throws {
        let kernel = try VectorKernels.kernel(name)
        for count in Self.counts {
            let x = logits(count, data)
            let best = x.max()!
            for temperature: Float in [1, 0.7, 1e-30, 1e30, .greatestFiniteMagnitude] {
                let magnitudes = x.map { (($0 - best) / temperature).magnitude }
                // All of them, about half, those equal to the best; most far, most near, all near.
                for floor in [-Float.infinity, x.sorted()[count / 2], best] {
                    for middle in [0, magnitudes.sorted()[count / 2], .infinity] {
                        let isIn = x.indices.filter { x[$0] >= floor }
                        func keys(_ isNear: Bool) -> [UInt64] {
                            isIn.filter { (magnitudes[$0] <= middle) == isNear }
                                .map { UInt64(magnitudes[$0].bitPattern) << 32 | UInt64($0) }
                        }
                        for placement in GuardedBuffer.Placement.allCases {
                            let input = GuardedBuffer(x, placement: placement)
                            let near = GuardedBuffer(bytes: count * 8, alignment: 8, placement: placement)
                            let far = GuardedBuffer(bytes: count * 8, alignment: 8, placement: placement)
                            let kept = kernel.candidates(
                                input.pointer(), count, best, floor, temperature, middle, near.pointer(), far.pointer())
                            #expect(Array(near.array(of: UInt64.self).prefix(kept.near)) == keys(true))
                            #expect(Array(far.array(of: UInt64.self).prefix(kept.far)) == keys(false))
                        }
                    }
                }
            }
        }
    }

    // MARK: - Weights

    @Test(arguments: VectorKernels.names)
    func weights(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        for count in Self.counts {
            var generator = SeededGenerator(seed: UInt64(count))
            let magnitudes = generator.floats(count - 1, in: 0...20) + [count % 2 == 0 ? 0 : .infinity]
            let keys = magnitudes.enumerated().map { UInt64($0.element.bitPattern) << 32 | UInt64($0.offset) }
            for placement in GuardedBuffer.Placement.allCases {
                let input = GuardedBuffer(keys, placement: placement)
                let output = GuardedBuffer(bytes: count * 4, placement: placement)
                kernel.exp_ranks(input.pointer(), count, output.pointer())
                #expect(output.array(of: Float.self).bits == magnitudes.map { lathe_exp(-$0) }.bits)
            }
        }
    }

    // MARK: - Sums without an order

    private func addUnordered(_ kernel: lathe_vector_kernel, _ sum: Float, _ x: [Float]) -> Float {
        var results: [Float] = []
        for placement in GuardedBuffer.Placement.allCases {
            let buffer = GuardedBuffer(x, placement: placement)
            results.append(kernel.add_unordered(sum, buffer.pointer(), x.count))
        }
        #expect(Set(results.map(\.bitPattern)).count == 1)
        return results[0]
    }

    /// Where it answers, any order of one addition after another gives those bits; and mostly it answers.
    @Test(arguments: VectorKernels.names)
    func sums(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        var generator = SeededGenerator(seed: 4)
        var answers = 0
        var cases = 0
        for count in Self.counts {
            for sum: Float in [1, 1.999_999_9, 2, 3.25, 17.125, 1000.1, 65536] {
                for farthest: Float in [0.5, 3, 12, 25] {
                    // From a few bits on every magnitude of weights, halves of units among them.
                    let x = generator.floats(count, in: -farthest...0).enumerated().map { place, exponent in
                        let weight = lathe_exp(exponent)
                        return place % 17 == 5 ? Float(bitPattern: weight.bitPattern & 0xFFF0_0000) : weight
                    }
                    let answer = addUnordered(kernel, sum, x)
                    #expect(answer.bitPattern == VectorKernels.definition.add_unordered(sum, x, count).bitPattern)
                    cases += 1
                    guard !answer.isNaN else { continue }
                    answers += 1
                    for order in [x, x.reversed(), x.sorted(), x.sorted(by: >)] {
                        #expect(order.reduce(sum, +) == answer, "\(count) weights on \(sum)")
                    }
                }
            }
        }
        #expect(answers * 3 > cases, "\(answers) of \(cases)")
    }

    @Test(arguments: VectorKernels.names)
    func sumsThatDependOnTheOrder(kernel name: String) throws {
        let kernel = try VectorKernels.kernel(name)
        let unit: Float = 0x1p-23
        // Half a unit: which of two neighbours is even depends on what came before.
        #expect(addUnordered(kernel, 1, [unit / 2]).isNaN)
        #expect(addUnordered(kernel, 1, [unit, unit * 1.5]).isNaN)
        #expect(addUnordered(kernel, 1, [unit * Float(0.5).nextUp, 0, unit * 0.25]) == 1 + unit)
        // The next power of two.
        #expect(addUnordered(kernel, 2 - 2 * unit, [unit]) == 2 - unit)
        #expect(addUnordered(kernel, 2 - 2 * unit, [unit, unit]).isNaN)
        #expect(addUnordered(kernel, 1, [Float](repeating: 1, count: 50_257)).isNaN)
        // Below one.
        #expect(addUnordered(kernel, 0, [1]).isNaN)
        #expect(addUnordered(kernel, 1 - unit, [0]).isNaN)
    }

    // MARK: - Sorting

    @Test func sortsKeys() {
        var generator = SeededGenerator(seed: 6)
        for count in [1, 2, 32, 33, 300, 1024, 1025, 3000] {
            // All bits of the upper half, a few of them, or none differ.
            for mask: UInt64 in [0xFFFF_FFFF, 0x0001_F000, 0xF000_0001, 0] {
                let keys = (0..<count).map { (generator.next() & mask | 0x0100_0000) << 32 | UInt64($0) }
                let buffer = GuardedBuffer(keys, placement: .beforeGuard)
                let other = GuardedBuffer(bytes: count * 8, alignment: 8, placement: .beforeGuard)
                lathe_sort_keys(buffer.pointer(), other.pointer(), count)
                #expect(buffer.array(of: UInt64.self) == keys.sorted(), "\(count) keys")
            }
        }
    }
}
