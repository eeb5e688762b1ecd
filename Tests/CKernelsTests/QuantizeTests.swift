import CKernels
import Testing

/// Dynamic activation quantization: the bits of the definition in both storages, and a step's distance from the values.
@Suite struct QuantizeTests {
    static var table: [lathe_quantize_kernel] {
        var count = 0
        let kernels = lathe_quantize_kernels(&count)
        return Array(UnsafeBufferPointer(start: kernels, count: count))
    }
    static let names = table.map { String(cString: $0.name) }
    static let depths = [1, 3, 15, 16, 17, 48, 63, 64, 65, 100, 768, 3072]

    static func kernel(_ name: String) throws -> lathe_quantize_kernel {
        let kernel = table.first { String(cString: $0.name) == name }!
        try requireFeatures(kernel.features, of: name)
        return kernel
    }

    enum Rows: CaseIterable {
        case ordinary, outliers, denormal, positive, negative, zeros, constant, leastSpan, belowLeastSpan, huge

        func floats(_ count: Int, using generator: inout SeededGenerator) -> [Float] {
            let values = generator.floats(count, in: -2...2)
            return switch self {
            case .ordinary: values
            case .outliers: TestData.outliers.floats(count, using: &generator)
            case .denormal: TestData.denormal.floats(count, using: &generator)
            case .positive: values.map { abs($0) + 0.5 }
            case .negative: values.map { -abs($0) - 0.5 }
            case .zeros: values.enumerated().map { $0.offset % 2 == 0 ? 0 : -0.0 }
            case .constant: values.map { _ in 0.75 }
            case .leastSpan: values.enumerated().map { $0.offset == 0 ? 0x1p-100 : $0.element * 0x1p-102 }
            case .belowLeastSpan: values.map { _ in 0x1.fffffep-101 }
            case .huge: values.map { $0 * 1e37 }
            }
        }
    }

    struct Result: Equatable {
        var scales: [UInt32]
        var zeroPoints: [Int32]
        var q: [Int]  // of all output memory, the slack included
        static let filler = 0x5A
    }

    private func run(
        _ kernel: lathe_quantize_kernel, _ storage: lathe_activation_storage, _ x: [Float], depth: Int, slack: Int = 0,
        placement: GuardedBuffer.Placement = .beforeGuard
    ) -> Result {
        let (rows, wide) = (x.count / depth, storage == LATHE_ACTIVATIONS_I16_CENTERED)
        let qStride = ((depth + 63) / 64 * 64 + slack * 64) * (wide ? 2 : 1)
        let input = GuardedBuffer(x.spread(width: depth, stride: depth + slack), placement: placement)
        let quantization = GuardedBuffer(bytes: rows * 8, placement: placement)
        let q = GuardedBuffer(
            bytes: rows * qStride - slack * 64 * (wide ? 2 : 1), alignment: 64, placement: placement)
        q.fill(UInt8(Result.filler))
        let function = wide ? kernel.to_storage.1 : kernel.to_storage.0
        function!(
            input.pointer(), (depth + slack) * 4, rows, depth, quantization.pointer(), UnsafeMutableRawPointer(q.base),
            qStride)
        let rowsOut = quantization.array(of: lathe_row_quantization.self)
        return Result(
            scales: rowsOut.map(\.scale.bitPattern), zeroPoints: rowsOut.map(\.zero_point),
            q: wide ? q.array(of: Int16.self).map(Int.init) : q.array(of: UInt8.self).map(Int.init))
    }

    @Test(arguments: names, Rows.allCases)
    func definition(kernel name: String, kind: Rows) throws {
        let kernel = try Self.kernel(name)
        for depth in Self.depths {
            for rows in [1, 3] {
                for placement in GuardedBuffer.Placement.allCases {
                    var generator = SeededGenerator(seed: UInt64(depth))
                    let x = kind.floats(rows * depth, using: &generator)
                    for storage in [LATHE_ACTIVATIONS_U8, LATHE_ACTIVATIONS_I16_CENTERED] {
                        let slack = rows - 1
                        let ours = run(kernel, storage, x, depth: depth, slack: slack, placement: placement)
                        let defined = run(Self.table[0], storage, x, depth: depth, slack: slack, placement: placement)
                        #expect(ours == defined, "\(rows)×\(depth), storage \(storage.rawValue)")
                    }
                }
            }
        }
    }

    @Test(arguments: names, Rows.allCases)
    func mathematics(kernel name: String, kind: Rows) throws {
        let kernel = try Self.kernel(name)
        for depth in Self.depths {
            var generator = SeededGenerator(seed: UInt64(depth))
            let x = kind.floats(depth, using: &generator)
            let bytes = run(kernel, LATHE_ACTIVATIONS_U8, x, depth: depth)
            let words = run(kernel, LATHE_ACTIVATIONS_I16_CENTERED, x, depth: depth)
            #expect(bytes.scales == words.scales && bytes.zeroPoints == words.zeroPoints)
            let zeroPoint = Int(bytes.zeroPoints[0])
            let scale = Double(Float(bitPattern: bytes.scales[0]))
            #expect((0...255).contains(zeroPoint))
            let span = Double(max(0, x.max()!)) - Double(min(0, x.min()!))
            if span < 0x1p-100 {
                #expect(scale == 1 && zeroPoint == 0 && bytes.q.allSatisfy { $0 == 0 })
            } else {
                #expect(abs(scale * 255 - span) <= span * 1e-6)
                for k in 0..<depth {
                    // Half a step, and at the ends of the range the half step that rounding the zero point may cost.
                    let error = abs(scale * Double(bytes.q[k] - zeroPoint) - Double(x[k]))
                    #expect(error <= scale * 1.001, "depth \(depth), element \(k)")
                    if x[k] == 0 { #expect(bytes.q[k] == zeroPoint) }
                }
            }
            for k in 0..<depth { #expect(words.q[k] == bytes.q[k] - zeroPoint) }
            #expect(bytes.q[depth...].allSatisfy { $0 == 0 } && words.q[depth...].allSatisfy { $0 == 0 })
        }
    }

    /// A broken activation must show in the outputs, not vanish in the comparisons of the range.
    @Test(arguments: names, [Float.nan, .infinity, -.infinity])
    func nonFinite(kernel name: String, value: Float) throws {
        let kernel = try Self.kernel(name)
        for depth in [1, 17, 64, 100, 768] {
            for index in [0, depth / 2, depth - 1] {
                var x = (0..<depth).map { Float($0) }
                x[index] = value
                for storage in [LATHE_ACTIVATIONS_U8, LATHE_ACTIVATIONS_I16_CENTERED] {
                    let result = run(kernel, storage, x, depth: depth)
                    #expect(Float(bitPattern: result.scales[0]).isNaN)
                    #expect((0...255).contains(result.zeroPoints[0]))
                }
            }
        }
    }

    // MARK: - 16 bits in two rows of bytes

    struct Halves: Equatable {
        var scales: [UInt32]
        var rowScales: [Float]
        var zeroPoints: [Int32]
        var q: [Int]
    }

    private func runHalves(
        _ kernel: lathe_quantize_kernel, _ storage: lathe_activation_storage, _ x: [Float], depth: Int, slack: Int = 0,
        placement: GuardedBuffer.Placement = .beforeGuard
    ) -> Halves {
        let (rows, wide) = (x.count / depth, storage == LATHE_ACTIVATIONS_I16_CENTERED)
        let qStride = ((depth + 63) / 64 * 64 + slack * 64) * (wide ? 2 : 1)
        let input = GuardedBuffer(x.spread(width: depth, stride: depth + slack), placement: placement)
        let scales = GuardedBuffer(bytes: rows * 4, placement: placement)
        let quantization = GuardedBuffer(bytes: 2 * rows * 8, placement: placement)
        let q = GuardedBuffer(
            bytes: 2 * rows * qStride - slack * 64 * (wide ? 2 : 1), alignment: 64, placement: placement)
        q.fill(UInt8(Result.filler))
        let function = wide ? kernel.halves_to_storage.1 : kernel.halves_to_storage.0
        function!(
            input.pointer(), (depth + slack) * 4, rows, depth, scales.pointer(), quantization.pointer(),
            UnsafeMutableRawPointer(q.base), qStride)
        let rowsOut = quantization.array(of: lathe_row_quantization.self)
        return Halves(
            scales: scales.array(of: UInt32.self), rowScales: rowsOut.map(\.scale),
            zeroPoints: rowsOut.map(\.zero_point),
            q: wide ? q.array(of: Int16.self).map(Int.init) : q.array(of: UInt8.self).map(Int.init))
    }

    @Test(arguments: names, Rows.allCases)
    func halvesAreTheDefinition(kernel name: String, kind: Rows) throws {
        let kernel = try Self.kernel(name)
        for depth in Self.depths {
            for rows in [1, 3] {
                for placement in GuardedBuffer.Placement.allCases {
                    var generator = SeededGenerator(seed: UInt64(depth))
                    let x = kind.floats(rows * depth, using: &generator)
                    for storage in [LATHE_ACTIVATIONS_U8, LATHE_ACTIVATIONS_I16_CENTERED] {
                        let slack = rows - 1
                        #expect(
                            runHalves(kernel, storage, x, depth: depth, slack: slack, placement: placement)
                                == runHalves(
                                    Self.table[0], storage, x, depth: depth, slack: slack, placement: placement),
                            "\(rows)×\(depth), storage \(storage.rawValue)")
                    }
                }
            }
        }
    }

    @Test(arguments: names, Rows.allCases)
    func halvesAreTheMathematics(kernel name: String, kind: Rows) throws {
        let kernel = try Self.kernel(name)
        for depth in Self.depths {
            var generator = SeededGenerator(seed: UInt64(depth))
            let x = kind.floats(depth, using: &generator)
            let bytes = runHalves(kernel, LATHE_ACTIVATIONS_U8, x, depth: depth)
            let words = runHalves(kernel, LATHE_ACTIVATIONS_I16_CENTERED, x, depth: depth)
            #expect(bytes.scales == words.scales && bytes.zeroPoints == words.zeroPoints)
            #expect(bytes.rowScales == [1, 1] && bytes.zeroPoints.allSatisfy { (0...255).contains($0) })
            let padded = (depth + 63) / 64 * 64
            let zeroPoint = 256 * Int(bytes.zeroPoints[0]) + Int(bytes.zeroPoints[1])
            let scale = Double(Float(bitPattern: bytes.scales[0]))
            let span = Double(max(0, x.max()!)) - Double(min(0, x.min()!))
            if span < 0x1p-100 { #expect(scale == 1 && zeroPoint == 0 && bytes.q.allSatisfy { $0 == 0 }) }
            for k in 0..<depth {
                let (high, low) = (bytes.q[k], bytes.q[padded + k])
                // A step, and the rounding of 24 bits.
                let error = abs(scale * Double(256 * high + low - zeroPoint) - Double(x[k]))
                #expect(span < 0x1p-100 || error <= scale * 1.01, "depth \(depth), element \(k)")
                #expect(words.q[k] == high - Int(bytes.zeroPoints[0]))
                #expect(words.q[padded + k] == low - Int(bytes.zeroPoints[1]))
            }
            for row in [0, padded] {
                #expect(bytes.q[(row + depth)..<(row + padded)].allSatisfy { $0 == 0 })
                #expect(words.q[(row + depth)..<(row + padded)].allSatisfy { $0 == 0 })
            }
        }
    }

    @Test(arguments: names, [Float.nan, .infinity, -.infinity])
    func nonFiniteHalves(kernel name: String, value: Float) throws {
        let kernel = try Self.kernel(name)
        for depth in [1, 17, 100, 768] {
            var x = (0..<depth).map { Float($0) }
            x[depth / 2] = value
            for storage in [LATHE_ACTIVATIONS_U8, LATHE_ACTIVATIONS_I16_CENTERED] {
                let result = runHalves(kernel, storage, x, depth: depth)
                #expect(Float(bitPattern: result.scales[0]).isNaN)
                #expect(result.zeroPoints.allSatisfy { (0...255).contains($0) })
            }
        }
    }
}
