import TestSupport
import Testing

@testable import LatheFormat

@Suite struct SafetensorsWriterTests {
    private let declarations = [
        TensorDeclaration(name: "first", dtype: .f32, shape: [2, 3]),
        TensorDeclaration(name: "none", dtype: .f32, shape: [0]),
        TensorDeclaration(name: "sécond", dtype: .f4, shape: [2, 5]),
        TensorDeclaration(name: "scalar", dtype: .i64, shape: []),
        TensorDeclaration(name: "last", dtype: .u8, shape: [4, 0]),
    ]

    @Test func whatIsWrittenInPiecesIsRead() throws {
        let folder = try TemporaryFolder()
        let data = (0..<37).map { UInt8($0) }
        for piece in [1, 5, 8] {
            let writer = try SafetensorsWriter(
                .path(folder.path("out")), metadata: [("format", "pt"), ("z", "\"quoted\"\n")], tensors: declarations)
            var position = 0
            for tensor in declarations {
                var left = tensor.byteCount
                while left > 0 {
                    let count = min(piece, left)
                    try writer.write(ByteView(copying: data[position..<position + count]))
                    position += count
                    left -= count
                }
            }
            try writer.finish()
            let file = try SafetensorsFile.open(path: folder.path("out"))
            #expect(file.headerByteCount % 8 == 0)
            #expect(file.metadata == ["format": "pt", "z": "\"quoted\"\n"])
            #expect(file.tensors.map(\.name).sorted() == declarations.map(\.name).sorted())
            for tensor in declarations {
                #expect(file[tensor.name]?.shape == tensor.shape)
                #expect(file[tensor.name]?.dtype == tensor.dtype)
            }
            #expect(try file.bytes(of: "first").array() == Array(0..<24))
            #expect(try file.bytes(of: "sécond").array() == Array(24..<29))
            #expect(try file.bytes(of: "scalar").array() == Array(29..<37))
        }
    }

    @Test func sizesAreCounted() {
        #expect(declarations.map(\.byteCount) == [24, 0, 5, 8, 0])
    }

    @Test func nothingAppearsBeforeTheEnd() throws {
        let folder = try TemporaryFolder()
        do {
            let writer = try SafetensorsWriter(.path(folder.path("out")), tensors: declarations)
            try writer.write(ByteView(copying: [UInt8](repeating: 1, count: 24)))
        }
        #expect(try folder.names() == [])
        #expect(throws: LatheError.self) {
            let writer = try SafetensorsWriter(.path(folder.path("out")), tensors: declarations) { operation, step in
                operation == .write && step == 2 ? .error(5) : nil
            }
            try writer.write(ByteView(copying: [UInt8](repeating: 1, count: 24)))
        }
        #expect(try folder.names() == [])
    }

    @Test func noTensors() throws {
        let writer = try SafetensorsWriter(.memory(name: "m"), tensors: [])
        let file = try SafetensorsFile.open(mapped: #require(try writer.finish()))
        #expect(file.tensors == [])
        #expect(file.fileByteCount == 16)
    }
}
