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

    @Test(arguments: [Float.nan, .infinity, -.infinity])
    func unusableBias(value: Float) throws {
        let error = try failure { tensors in
            let index = tensors.firstIndex { $0.declaration.name == "p3" }!
            tensors[index].bytes.replaceSubrange(9 * 4..<10 * 4, with: bytes([value]))
        }
        #expect(error.code == .corrupt && error.message.contains("`p3`"), "\(error.message)")
    }

    @Test func missingMetadata() throws {
        let writer = try LatheFileWriter(.memory(name: "empty"), metadata: [], tensors: [])
        let file = try #require(try writer.finish())
        let error = try #require(throws: LatheError.self) { try ModelFile.open(mapped: file, verify: true) }
        #expect(error.code == .corrupt && error.message.contains("lathe.configuration"))
    }
}
