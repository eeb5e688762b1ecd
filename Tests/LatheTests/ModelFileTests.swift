import Lathe
import LatheFormat
import Testing

/// What a `.lathe` file may hold besides a sound header: every tensor of the graph, in its shape, with usable numbers.
@Suite struct ModelFileTests {
    private func failure(
        _ encoding: WeightEncoding = .panels,
        change: (inout [(declaration: TensorDeclaration, bytes: [UInt8])]) -> Void
    ) throws -> LatheError {
        var model = HandMadeModel(encoding: encoding)
        let x = model.embed()
        model.head(model.add(model.attention(x, x, x), model.linear(x, to: 10)))
        var tensors = model.tensors()
        change(&tensors)
        let file = try HandMadeModel.file(configuration: model.configuration, graph: model.graph, tensors: tensors)
        return try #require(throws: LatheError.self) { try ModelFile.open(mapped: file, verify: true) }
    }

    private func bytes(_ values: [Float]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }

    @Test func missingTensor() throws {
        let error = try failure { $0.remove(at: 2) }
        #expect(error.code == .corrupt && error.message.contains("`p2`") && error.message.contains("missing"))
    }

    @Test func extraTensor() throws {
        let error = try failure {
            $0.append((TensorDeclaration(name: "stranger", dtype: .u8, shape: [64]), [UInt8](repeating: 0, count: 64)))
        }
        #expect(error.code == .corrupt && error.message.contains("`stranger`"))
    }

    @Test(arguments: [[1, 9, 16], [2, 10, 16], [10, 16]])
    func misshapenTensor(shape: [Int]) throws {
        let error = try failure {
            $0[2] = (
                TensorDeclaration(name: "p2", dtype: .f32, shape: shape),
                [UInt8](repeating: 0, count: shape.reduce(4, *))
            )
        }
        #expect(error.code == .corrupt && error.message.contains("`p2`") && error.message.contains("[1, 10, 16]"))
    }

    @Test func mistypedTensor() throws {
        let error = try failure {
            $0[2].declaration = TensorDeclaration(name: "p2", dtype: .i32, shape: [1, 10, 16])
        }
        #expect(error.code == .corrupt && error.message.contains("`p2`") && error.message.contains("I32"))
    }

    @Test(arguments: [0, -1, Float.nan, .infinity, -0.0])
    func unusableScale(scale: Float) throws {
        let error = try failure(.qc8w) { tensors in
            let index = tensors.firstIndex { $0.declaration.name == "p2.scales" }!
            tensors[index].bytes.replaceSubrange(5 * 4..<6 * 4, with: bytes([scale]))
        }
        #expect(error.code == .corrupt)
        #expect(error.message.contains("`p2.scales`") && error.message.contains("at 5"), "\(error.message)")
    }

    // MARK: Packed weights; these checks are for safety, so they hold without verifying too

    /// - Parameter change: of the bytes of the tensor of that name.
    private func packedFailure(
        _ encoding: WeightEncoding, _ name: String, vocabulary: Int = 21, change: (inout [UInt8]) -> Void
    ) throws -> LatheError {
        var model = HandMadeModel(vocabulary: vocabulary, encoding: encoding)
        let x = model.embed()
        model.head(model.add(model.attention(x, x, x), model.linear(x, to: 10)))
        var tensors = model.tensors()
        let index = try #require(tensors.firstIndex { $0.declaration.name == name })
        change(&tensors[index].bytes)
        let file = try HandMadeModel.file(configuration: model.configuration, graph: model.graph, tensors: tensors)
        let error = try #require(throws: LatheError.self) { try ModelFile.open(mapped: file, verify: false) }
        #expect(error.code == .corrupt && error.message.contains("`\(name)`"), "\(error.message)")
        return error
    }

    private static let sparse: [WeightEncoding] = [
        .quantized(.init(packedByteCount: 64)), .quantized(.init(groupSize: 64, packedByteCount: 64)),
    ]

    @Test(arguments: [Int8(0), 16, -16, -128, 127])
    func unusableMultiplier(multiplier: Int8) throws {
        for groupSize in [32, 64, 128] {
            let error = try packedFailure(.quantized(.init(groupSize: groupSize)), "p0.multipliers") {
                // Of the second panel, which has the columns 16 to 20; one group of 64, or two of 32.
                $0[(groupSize == 32 ? 32 : 16) + 4] = UInt8(bitPattern: multiplier)
            }
            #expect(error.message.contains("panel 1, group 0, column 20"), "\(error.message)")
        }
    }

    @Test(arguments: sparse)
    func unusableScaleOfSparseWeights(encoding: WeightEncoding) throws {
        _ = try packedFailure(encoding, "p0.scales") { $0.replaceSubrange(0..<4, with: bytes([.nan])) }
    }

    @Test(arguments: sparse, [UInt32(1), 0xFFFF_FFFF, 0])
    func startThatIsNotWhereThePanelBegins(encoding: WeightEncoding, start: UInt32) throws {
        let error = try packedFailure(encoding, "p0.starts", vocabulary: 40) {
            // The third panel; the second is empty, so that the first one's bytes are what it begins behind.
            $0.replaceSubrange(8..<12, with: withUnsafeBytes(of: start) { Array($0) })
        }
        #expect(error.message.contains("panel 2") && error.message.contains("\(start)"), "\(error.message)")
    }

    @Test(arguments: sparse)
    func firstPanelThatDoesNotBeginAtZero(encoding: WeightEncoding) throws {
        let error = try packedFailure(encoding, "p0.starts") { $0[0] = 1 }
        #expect(error.message.contains("panel 0"), "\(error.message)")
    }

    /// More bits than bytes: a kernel that goes by the masks would read past the end.
    @Test(arguments: sparse)
    func masksThatNameMoreThanThereIs(encoding: WeightEncoding) throws {
        // In the last panel, so that no start is wrong.
        _ = try packedFailureOfMasks(encoding, fromPanel: 1)
    }

    @Test(arguments: sparse)
    func masksThatMoveTheNextPanel(encoding: WeightEncoding) throws {
        let error = try packedFailureOfMasks(encoding, fromPanel: 0)
        #expect(error.message.contains("panel 1"), "\(error.message)")
    }

    private func packedFailureOfMasks(_ encoding: WeightEncoding, fromPanel panel: Int) throws -> LatheError {
        var model = HandMadeModel(encoding: encoding)
        let x = model.embed()
        model.head(model.attention(x, x, x))
        var tensors = model.tensors()
        let index = try #require(tensors.firstIndex { $0.declaration.name == "p0.masks" })
        for byte in panel * 128..<(panel + 1) * 128 { tensors[index].bytes[byte] = 0xFF }
        let file = try HandMadeModel.file(configuration: model.configuration, graph: model.graph, tensors: tensors)
        let error = try #require(throws: LatheError.self) { try ModelFile.open(mapped: file, verify: false) }
        let name = panel == 0 ? "`p0.starts`" : "`p0`"
        #expect(error.code == .corrupt && error.message.contains(name), "\(error.message)")
        return error
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity])
    func unusableBias(value: Float) throws {
        let error = try failure { tensors in
            let index = tensors.firstIndex { $0.declaration.name == "p3" }!
            tensors[index].bytes.replaceSubrange(9 * 4..<10 * 4, with: bytes([value]))
        }
        #expect(error.code == .corrupt && error.message.contains("`p3`"), "\(error.message)")
    }

    /// An embedding's rows, and a linear operation's panels.
    @Test(arguments: ["p0", "p2"], [Float.nan, .infinity, -.infinity])
    func unusableElementOfAMatrix(name: String, value: Float) throws {
        let error = try failure { tensors in
            let index = tensors.firstIndex { $0.declaration.name == name }!
            tensors[index].bytes.replaceSubrange(7 * 4..<8 * 4, with: bytes([value]))
        }
        #expect(error.code == .corrupt)
        #expect(error.message.contains("`\(name)`") && error.message.contains("at 7"), "\(error.message)")
    }

    @Test func missingMetadata() throws {
        let writer = try LatheFileWriter(.memory(name: "empty"), metadata: [], tensors: [])
        let file = try #require(try writer.finish())
        let error = try #require(throws: LatheError.self) { try ModelFile.open(mapped: file, verify: true) }
        #expect(error.code == .corrupt && error.message.contains("lathe.configuration"))
    }
}
