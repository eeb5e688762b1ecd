import CKernels
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

func referenceExp(_ x: Double) -> Double { exp(x) }

/// Attention and the cache it reads: the bits of the definition, whatever the blocking, and the mathematics.
@Suite struct VectorAttentionTests {
    static let headDims = [1, 4, 12, 16, 33, 64, 80]
    static let types = lathe_kv_type.all
    static let firsts = [0, 1, 63, 64, 255, 300]

    private func compare(_ kernel: lathe_vector_kernel, _ shape: AttentionCase) {
        let problem = AttentionProblem(shape)
        #expect(problem.run(kernel).bits == problem.run(VectorKernels.definition).bits, "\(shape)")
    }

    @Test(arguments: VectorKernels.names, headDims)
    func shapes(kernel name: String, headDim: Int) throws {
        let kernel = try VectorKernels.kernel(name)
        var count = 0
        for type in Self.types {
            for first in Self.firsts {
                for rows in [1, 2, 3, 5, 6, 7, 8, 9, 11, 16, 17] {
                    count += 1
                    compare(
                        kernel,
                        AttentionCase(
                            type: type, headDim: headDim, first: first, rows: rows,
                            placement: count % 2 == 0 ? .afterGuard : .beforeGuard, valuesFirst: count % 3 == 0,
                            slack: count % 4))
                }
            }
        }
    }

    @Test(arguments: VectorKernels.names, types)
    func longShapes(kernel name: String, type: lathe_kv_type) throws {
        let kernel = try VectorKernels.kernel(name)
        for (first, rows) in [(0, 300), (248, 16), (500, 40), (1023, 1), (767, 3)] {
            compare(kernel, AttentionCase(type: type, headDim: 64, first: first, rows: rows))
        }
    }

    @Test(arguments: VectorKernels.names, TestData.allCases)
    func unusualValues(kernel name: String, data: TestData) throws {
        let kernel = try VectorKernels.kernel(name)
        for type in Self.types {
            for (first, rows) in [(0, 1), (0, 20), (60, 9), (250, 17)] {
                compare(kernel, AttentionCase(type: type, headDim: 64, first: first, rows: rows, data: data))
            }
        }
    }

    @Test(arguments: VectorKernels.names, types)
    func mathematics(kernel name: String, type: lathe_kv_type) throws {
        let kernel = try VectorKernels.kernel(name)
        for headDim in [1, 12, 64, 80] {
            for (first, rows) in [(0, 1), (0, 9), (15, 8), (63, 2), (250, 12), (511, 3)] {
                let shape = AttentionCase(type: type, headDim: headDim, first: first, rows: rows)
                let problem = AttentionProblem(shape)
                for (y, expected) in zip(problem.run(kernel), problem.reference()) {
                    #expect(abs(Double(y) - expected) < 1e-5, "\(shape)")
                }
            }
        }
    }

    /// A prompt in one piece, in two pieces and token by token gives the same bits.
    @Test(arguments: VectorKernels.names, types)
    func splitsDoNotMatter(kernel name: String, type: lathe_kv_type) throws {
        let kernel = try VectorKernels.kernel(name)
        for first in [0, 40, 250] {
            let shape = AttentionCase(type: type, headDim: 64, first: first, rows: 40)
            let problem = AttentionProblem(shape)
            let whole = problem.run(kernel).bits

            let blocks = problem.emptyBlocks()
            problem.store(kernel, in: blocks, 0..<first + 17)
            var pieces = problem.attend(kernel, blocks, 0..<17)
            problem.store(kernel, in: blocks, first + 17..<first + 40)
            pieces += problem.attend(kernel, blocks, 17..<40)
            #expect(pieces.bits == whole)

            let fresh = problem.emptyBlocks()
            if first > 0 { problem.store(kernel, in: fresh, 0..<first) }
            var tokens: [Float] = []
            for row in 0..<40 {
                problem.store(kernel, in: fresh, first + row..<first + row + 1)
                tokens += problem.attend(kernel, fresh, row..<row + 1)
            }
            #expect(tokens.bits == whole)
        }
    }

    @Test(arguments: VectorKernels.names, headDims)
    func storesAreTheDefinition(kernel name: String, headDim: Int) throws {
        let kernel = try VectorKernels.kernel(name)
        for type in Self.types {
            for data in TestData.allCases {
                for (first, rows) in [(0, 1), (0, 17), (5, 64), (63, 2), (64, 16), (100, 50)] {
                    for placement in GuardedBuffer.Placement.allCases {
                        let shape = AttentionCase(
                            type: type, headDim: headDim, first: first, rows: rows, data: data, placement: placement,
                            valuesFirst: rows % 2 == 0, slack: rows % 3)
                        let problem = AttentionProblem(shape)
                        let (ours, defined) = (problem.emptyBlocks(), problem.emptyBlocks())
                        problem.store(kernel, in: ours, first..<first + rows)
                        problem.store(VectorKernels.definition, in: defined, first..<first + rows)
                        for (a, b) in zip(ours, defined) {
                            #expect(a.array(of: UInt8.self) == b.array(of: UInt8.self), "\(shape)")
                        }
                    }
                }
            }
        }
    }

    @Test(arguments: VectorKernels.names, types)
    func aNaNIsSeen(kernel name: String, type: lathe_kv_type) throws {
        let kernel = try VectorKernels.kernel(name)
        let problem = AttentionProblem(AttentionCase(type: type, headDim: 16, first: 20, rows: 9))
        let blocks = problem.emptyBlocks()
        // Only positions from 1 on are stored: position 0 is still the NaNs of the empty block, which every query sees.
        problem.store(kernel, in: blocks, 1..<29)
        #expect(problem.attend(kernel, blocks, 0..<9).allSatisfy { $0.isNaN })
    }
}
