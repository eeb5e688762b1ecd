import AMXEmulation
import CKernels
import Testing

/// Every int8 kernel gives the bits of the scalar definition, and the definition is what the mathematics says.
@Suite struct LinearQD8Tests {
    static let rows = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 15, 16, 17, 25, 31, 32, 33, 64]
    /// The widths around one panel, and every remainder of groups of three and four panels.
    static let columns = [1, 3, 15, 16, 17, 33, 48, 64, 77, 96, 130]
    static let depths = [1, 3, 63, 64, 65, 48, 768]
    static let epilogues = [
        LATHE_EPILOGUE_NONE, LATHE_EPILOGUE_GELU_TANH, LATHE_EPILOGUE_GELU_ERF, LATHE_EPILOGUE_RELU,
    ]

    private func compare(_ shape: LinearQD8Case, _ subject: LinearQD8Subject, seed: UInt64 = 1) {
        let problem = LinearQD8Problem(shape, subject.format, seed: seed)
        let expected = problem.runDefinition()
        #expect(problem.run(subject) == expected, "\(shape)")
    }

    private func expectNoViolation() {
        if let violation = lathe_amx_emulation_violation() { Issue.record("tiles: \(String(cString: violation))") }
    }

    @Test(arguments: LinearQD8Kernels.subjects, depths)
    func shapes(subject: LinearQD8Subject, depth: Int) {
        var seed: UInt64 = 0
        for rows in Self.rows {
            for columns in Self.columns {
                seed += 1
                // The rest of a call varies along with the shape; the next test has every combination.
                compare(
                    LinearQD8Case(
                        rows: rows, columns: columns, depth: depth, epilogue: Self.epilogues[Int(seed % 4)],
                        bias: seed % 3 != 0, residual: LinearQD8Case.Residual.allCases[Int(seed % 3)],
                        slack: Int(seed % 2) * 5, placement: seed % 5 == 0 ? .afterGuard : .beforeGuard),
                    subject, seed: seed)
            }
        }
        expectNoViolation()
    }

    @Test(arguments: LinearQD8Kernels.subjects)
    func deepShapes(subject: LinearQD8Subject) {
        for depth in [1024, 1025, 1088, 3072] {
            for rows in [1, 6, 8, 17, 33, 64, 130, 161] {
                for columns in [16, 47, 80] {
                    compare(LinearQD8Case(rows: rows, columns: columns, depth: depth, residual: .output), subject)
                }
            }
        }
        expectNoViolation()
    }

    @Test(arguments: LinearQD8Kernels.subjects)
    func epilogues(subject: LinearQD8Subject) {
        for epilogue in Self.epilogues {
            for bias in [false, true] {
                for residual in LinearQD8Case.Residual.allCases {
                    for slack in [0, 1, 16] {
                        for placement in GuardedBuffer.Placement.allCases {
                            for rows in [1, 10, 35] {
                                let shape = LinearQD8Case(
                                    rows: rows, columns: 77, depth: 100, epilogue: epilogue, bias: bias,
                                    residual: residual, slack: slack, placement: placement)
                                compare(shape, subject)
                            }
                        }
                    }
                }
            }
        }
        expectNoViolation()
    }

    @Test(arguments: LinearQD8Kernels.subjects)
    func panelRangesAddUp(subject: LinearQD8Subject) {
        for rows in [1, 3, 8, 12, 40] {
            let problem = LinearQD8Problem(
                LinearQD8Case(
                    rows: rows, columns: 250, depth: 200, epilogue: LATHE_EPILOGUE_GELU_TANH, residual: .output),
                subject.format)
            let whole = problem.runDefinition()
            for cut in 1..<16 {
                #expect(problem.run(subject, panels: [cut..<16, 0..<cut]) == whole, "rows \(rows) cut \(cut)")
            }
            #expect(problem.run(subject, panels: (0..<16).map { $0..<$0 + 1 }) == whole)
        }
        expectNoViolation()
    }

    @Test(arguments: LinearQD8Kernels.subjects)
    func anEmptyRangeWritesNothing(subject: LinearQD8Subject) {
        let problem = LinearQD8Problem(LinearQD8Case(rows: 20, columns: 40, depth: 70), subject.format)
        #expect(problem.run(subject, panels: [1..<1]).allSatisfy { $0 == LinearQD8Problem.untouched })
        expectNoViolation()
    }

    @Test(arguments: LinearQD8Kernels.subjects)
    func slackBetweenRowsStaysUntouched(subject: LinearQD8Subject) {
        let shape = LinearQD8Case(rows: 18, columns: 37, depth: 70, slack: 11)
        let output = LinearQD8Problem(shape, subject.format).run(subject)
        for (index, word) in output.enumerated() {
            #expect((word == LinearQD8Problem.untouched) == (index % 48 >= 37))
        }
        expectNoViolation()
    }

    /// All activations 255, all weights the largest that the format has, zero points 0 and 255, at the greatest depth: int8's
    /// sums reach 1.06e9, and −zp·colsum alone 1.06e9 the other way; int4's 1.0e9.
    @Test(arguments: LinearQD8Kernels.subjects)
    func theLargestSumsAreExact(subject: LinearQD8Subject) {
        for rows in [1, 2, 8, 30, 33] {
            let shape = LinearQD8Case(rows: rows, columns: 70, depth: 32768, data: .extremes)
            let problem = LinearQD8Problem(shape, subject.format)
            let output = problem.run(subject)
            let largest = subject.format.largest
            #expect(output == problem.runDefinition(), "\(shape)")
            for row in 0..<rows {
                for n in 0..<shape.columns {
                    let zeroPoint = Int(problem.quantization[row].zero_point)
                    let sum = Float((255 - zeroPoint) * (n % 2 == 0 ? largest : -largest) * 32768)
                    let expected = problem.bias[n].addingProduct(
                        sum * problem.quantization[row].scale, problem.scales[n])
                    #expect(problem.value(output, row: row, column: n) == expected)
                }
            }
        }
        expectNoViolation()
    }

    /// Some kernels split the column sums to take the zero point off by 16-bit products.
    @Test(arguments: LinearQD8Kernels.subjects)
    func everyZeroPointIsTakenOff(subject: LinearQD8Subject) {
        for depth in [1, 200, 5000, 32768] {
            compare(LinearQD8Case(rows: 256, columns: 16, depth: depth, data: .everyZeroPoint), subject)
        }
        expectNoViolation()
    }

    /// An error of all kernels alike would pass the tests above.
    @Test func theDefinitionIsTheMathematics() {
        for epilogue in Self.epilogues {
            for (rows, columns, depth) in [(1, 1, 1), (3, 17, 65), (4, 33, 768)] {
                for residual in LinearQD8Case.Residual.allCases {
                    let problem = LinearQD8Problem(
                        LinearQD8Case(
                            rows: rows, columns: columns, depth: depth, epilogue: epilogue, bias: residual != .none,
                            residual: residual))
                    let output = problem.runDefinition()
                    for (index, expected) in problem.reference().enumerated() {
                        let actual = Double(problem.value(output, row: index / columns, column: index % columns))
                        #expect(abs(actual - expected) <= 1e-6 * max(2, abs(expected)), "\(problem.shape) at \(index)")
                    }
                }
            }
        }
    }

    @Test(arguments: Set(LinearQD8Format.all.map(\.kind)))
    func selectionKeepsToFeaturesAndRows(kind: LinearQD8Format.Kind) {
        let format = LinearQD8Format(kind: kind).format
        for features in [UInt32(0), lathe_cpu_features(), UInt32.max, UInt32(LATHE_CPU_AVX2)] {
            for rows in [1, 7, 8, 9, 64, 512] {
                let choice = lathe_linear_qd8_choose(format, features, rows)
                let kernel = choice.kernel.pointee
                #expect(kernel.features & ~features == 0)
                // SIZE_MAX arrives as −1.
                #expect(kernel.minimum_rows <= rows && rows <= UInt(bitPattern: kernel.maximum_rows))
                #expect(kernel.format == (choice.expand == nil ? format : LATHE_QC8W))
                if let expand = choice.expand?.pointee {
                    #expect(expand.format == format && expand.features & ~features == 0)
                }
                // A vector instruction set is never left for the definition.
                #expect(kernel.features != 0 || features == 0)
            }
        }
        #expect(String(cString: lathe_linear_qd8_choose(format, 0, 1).kernel.pointee.name) == "scalar")
        #expect(
            lathe_linear_qd8_scratch_bytes(format, 1000)
                == (kind == .qc8w ? 0 : lathe_linear_qd8_scratch_bytes(format, 1024)))
        #expect(LinearQD8Kernels.table.allSatisfy { $0.minimum_rows >= 1 })
    }
}
