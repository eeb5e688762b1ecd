import TestSupport
import Testing

@testable import LatheFormat

@Suite struct FloatConversionTests {
    private func file(_ dtype: DType, _ bytes: [UInt8]) throws -> SafetensorsFile {
        let declaration = TensorDeclaration(name: "x", dtype: dtype, shape: [bytes.count * 8 / dtype.bitWidth])
        let writer = try SafetensorsWriter(.memory(name: "memory"), tensors: [declaration])
        try writer.write(ByteView(copying: bytes))
        return try SafetensorsFile.open(mapped: #require(try writer.finish()))
    }

    private func floats(_ buffer: AlignedBuffer) -> [Float] {
        buffer.view.withSpan(of: Float.self) { span in span.indices.map { span[$0] } }
    }

    private func littleEndian<T: FixedWidthInteger>(_ values: [T]) -> [UInt8] {
        values.flatMap { value in (0..<T.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
    }

    /// The value of a binary floating-point pattern by its definition; nil for NaN.
    private func value(_ bits: UInt32, exponentBits: Int, fractionBits: Int) -> Double? {
        let fraction = Double(bits & (1 << fractionBits - 1))
        let exponent = Int(bits >> fractionBits) & (1 << exponentBits - 1)
        let sign: Double = bits >> (exponentBits + fractionBits) == 0 ? 1 : -1
        let bias = 1 << (exponentBits - 1) - 1
        let scale = Double(sign: .plus, exponent: max(exponent, 1) - bias - fractionBits, significand: 1)
        if exponent == 1 << exponentBits - 1 { return fraction == 0 ? sign * .infinity : nil }
        return sign * (fraction + (exponent == 0 ? 0 : Double(1 << fractionBits))) * scale
    }

    @Test(arguments: [(DType.f16, 5, 10), (DType.bf16, 8, 7)])
    func everySixteenBitValueIsExact(dtype: DType, exponentBits: Int, fractionBits: Int) throws {
        let patterns = (0...UInt32(UInt16.max)).map { UInt16($0) }
        let read = floats(try file(dtype, littleEndian(patterns)).floats(of: "x"))
        #expect(read.count == 65_536)
        for pattern in patterns {
            let expected = value(UInt32(pattern), exponentBits: exponentBits, fractionBits: fractionBits)
            let float = read[Int(pattern)]
            #expect(expected == nil ? float.isNaN : Double(float) == expected && float.sign == expected!.sign)
        }
    }

    @Test func singlesAreTheSameBits() throws {
        var generator = SplitMix64(seed: 3)
        let patterns: [UInt32] =
            [0, 0x8000_0000, 1, 0x7F80_0000, 0xFF80_0000, 0x7F80_0001, 0x7FC0_0000, 0x7F7F_FFFF]
            + (0..<100).map { _ in UInt32(truncatingIfNeeded: generator.next()) }
        let buffer = try file(.f32, littleEndian(patterns)).floats(of: "x")
        #expect(buffer.view.array() == littleEndian(patterns))
    }

    @Test func integersAreTheNearestFloats() throws {
        #expect(floats(try file(.u8, Array(0...255)).floats(of: "x")) == (0...255).map { Float($0) })
        #expect(
            floats(try file(.i8, Array(0...255)).floats(of: "x")) == (0...255).map { Float($0 < 128 ? $0 : $0 - 256) })
        let int32: [Int32] = [0, 1, -1, .max, .min, 16_777_216, 16_777_217, 16_777_219, -16_777_219]
        #expect(
            floats(try file(.i32, littleEndian(int32)).floats(of: "x"))
                == [0, 1, -1, 2_147_483_648, -2_147_483_648, 16_777_216, 16_777_216, 16_777_220, -16_777_220])
        let int64: [Int64] = [0, -1, .max, .min, 1 << 53, (1 << 62) + 1, (1 << 24) + 1, -((1 << 24) + 3)]
        #expect(
            floats(try file(.i64, littleEndian(int64)).floats(of: "x"))
                == [0, -1, 0x1p63, -0x1p63, 0x1p53, 0x1p62, 16_777_216, -16_777_220])
    }

    @Test func booleansAreZeroAndOne() throws {
        #expect(floats(try file(.bool, [0, 1, 1, 0]).floats(of: "x")) == [0, 1, 1, 0])
        let error = error { () throws(LatheError) in
            guard let file = try? file(.bool, [0, 1, 2]) else { return }
            _ = try file.floats(of: "x")
        }
        #expect(error?.message.contains("bytes other than 0 and 1") == true)
    }

    @Test(arguments: DType.allCases)
    func otherTypesAreRefusedByName(dtype: DType) throws {
        let file = try file(dtype, [UInt8](repeating: 0, count: 24))
        let error = error { () throws(LatheError) in _ = try file.floats(of: "x") }
        if [.f32, .f16, .bf16, .i8, .u8, .i32, .i64, .bool].contains(dtype) {
            #expect(error == nil)
        } else {
            #expect(error?.code == .unsupported)
            #expect(error?.message.contains("\"x\" is \(dtype.rawValue)") == true)
        }
    }

    /// Data that begins at an odd byte, ranges, both kinds of access, and pieces beyond the size of one.
    @Test(arguments: [DType.f32, .f16, .i64])
    func rangesAndUnalignedData(dtype: DType) throws {
        let folder = try TemporaryFolder()
        let count = 600_000
        let width = dtype.bitWidth / 8
        var generator = SplitMix64(seed: 9)
        let data = (0..<count * width).map { _ in UInt8(truncatingIfNeeded: generator.next()) & 0x3F }
        let header =
            #"{"odd":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"#
            + #""x":{"dtype":"\#(dtype.rawValue)","shape":[3,\#(count / 3)],"data_offsets":[1,\#(1 + count * width)]}}"#
        let path = try folder.write(safetensors(header, [9] + data), to: "a")
        let expected = floats(try file(dtype, data).floats(of: "x"))
        for access in [SafetensorsFile.Access.mapped, .read] {
            let file = try SafetensorsFile.open(path: path, access: access)
            #expect(floats(try file.floats(of: "x")) == expected)
            let tensor = try file.tensor("x")
            for range in [0..<0, 0..<1, 5..<6, 262_143..<262_146, 599_999..<600_000, 100..<599_000, count..<count] {
                #expect(floats(try file.floats(of: tensor, elements: range)) == Array(expected[range]))
                let bytes = range.lowerBound * width..<range.upperBound * width
                #expect(try file.bytes(of: tensor, bytes).array() == Array(data[bytes]))
            }
        }
    }
}
