import TestSupport
import Testing

@testable import LatheFormat

@Suite struct LatheFileTests {
    private let declarations = [
        TensorDeclaration(name: "weights", dtype: .i8, shape: [2, 64]),
        TensorDeclaration(name: "bias", dtype: .f32, shape: [5]),
        TensorDeclaration(name: "positions", dtype: .f32, shape: [3, 5]),
        TensorDeclaration(name: "none", dtype: .u32, shape: [0]),
        TensorDeclaration(name: "größe", dtype: .u8, shape: [100]),
    ]

    private func data(_ count: Int, seed: UInt64 = 5) -> [UInt8] {
        var generator = SplitMix64(seed: seed)
        return (0..<count).map { _ in UInt8.random(in: 1...255, using: &generator) }
    }

    private func memoryFile(
        _ declarations: [TensorDeclaration], metadata: [(String, String)] = [("lathe.graph", "{\"nodes\":[]}")]
    ) throws -> MappedFile {
        let writer = try LatheFileWriter(.memory(name: "test.lathe"), metadata: metadata, tensors: declarations)
        for declaration in declarations { try writer.write(ByteView(copying: data(declaration.byteCount))) }
        return try #require(try writer.finish())
    }

    private func mapped(_ bytes: [UInt8]) throws(LatheError) -> MappedFile {
        let file = try AtomicFile(.memory(name: "test.lathe"))
        try file.append(ByteView(copying: bytes))
        guard let mapped = try file.finish() else { throw LatheError(.io, "no map") }
        return mapped
    }

    private func refusal(_ bytes: [UInt8], verify: Bool) -> LatheError? {
        error { () throws(LatheError) in _ = try LatheFile.open(mapped: try mapped(bytes), verify: verify) }
    }

    // MARK: Round trip

    @Test func whatIsWrittenIsRead() throws {
        let file = try LatheFile.open(mapped: try memoryFile(declarations))
        #expect(file.metadata["lathe.graph"] == "{\"nodes\":[]}")
        #expect(try file.metadata("lathe.version") == "1")
        #expect(file.metadata["lathe.checksum"] == "xxh64")
        #expect(file.headerByteCount == 4096)
        #expect(file.tensors.map(\.shape).count == 5)
        for tensor in file.tensors {
            #expect(tensor.fileOffset % 64 == 0)
            #expect(tensor.byteCount % 64 == 0)
            #expect(try file.bytes(of: tensor.name).isAligned(to: UInt64.self))
        }
        #expect(file["weights"]?.shape == [2, 64])
        #expect(try file.bytes(of: "weights").array() == data(128))
        #expect(file["bias"]?.shape == [16])
        #expect(try file.bytes(of: "bias").array() == data(20) + [UInt8](repeating: 0, count: 44))
        #expect(file["none"]?.shape == [0])
        #expect(file["größe"]?.shape == [128])
        #expect(try file.bytes(of: "größe").array() == data(100) + [UInt8](repeating: 0, count: 28))
        let missing = error { () throws(LatheError) in _ = try file.bytes(of: "absent") }
        #expect(missing?.code == .missing)
        #expect(throws: LatheError.self) { try file.metadata("lathe.recipe") }
    }

    @Test func everyRowIsPadded() throws {
        let file = try LatheFile.open(mapped: try memoryFile(declarations))
        #expect(file["positions"]?.shape == [3, 16])
        let given = data(60)
        let padding = [UInt8](repeating: 0, count: 44)
        #expect(
            try file.bytes(of: "positions").array() == given[..<20] + padding + given[20..<40] + padding + given[40...]
                + padding)
    }

    @Test(arguments: [
        (DType.f32, [1], [16]), (.f32, [16], [16]), (.f32, [17], [32]), (.u8, [1], [64]), (.u8, [65], [128]),
        (.u16, [2, 3], [2, 16]), (.i8, [4, 15], [4, 16]), (.i8, [3, 64], [3, 64]), (.i8, [3, 63], [3, 64]),
        (.f32, [768, 1], [768, 1]), (.f32, [50257], [50272]), (.f64, [3, 5, 7], [3, 5, 8]), (.f4, [4], [128]),
        (.f6E2M3, [4], [256]), (.i64, [0], [0]), (.u8, [7, 0, 3], [7, 0, 3]),
    ])
    func paddedShapes(dtype: DType, shape: [Int], expected: [Int]) {
        let padded = LatheLayout.padded(TensorDeclaration(name: "x", dtype: dtype, shape: shape))
        #expect(padded.shape == expected)
        #expect(padded.byteCount % 64 == 0)
    }

    @Test(arguments: [1, 3, 7, 64, 1000, 262_144, 300_000])
    func piecesGiveTheSameBytes(piece: Int) throws {
        let declarations = [
            TensorDeclaration(name: "a", dtype: .u8, shape: [300, 1001]),
            TensorDeclaration(name: "b", dtype: .f32, shape: [100_001]),
            TensorDeclaration(name: "c", dtype: .u8, shape: [600_000]),
        ]
        let whole = try memoryFile(declarations)
        let writer = try LatheFileWriter(
            .memory(name: "x"), metadata: [("lathe.graph", "{\"nodes\":[]}")], tensors: declarations)
        for declaration in declarations {
            let bytes = ByteView(copying: data(declaration.byteCount))
            // The smallest pieces only at the ends, for the sake of time.
            let small = piece < 64 ? min(5000, bytes.count) : bytes.count
            for start in stride(from: 0, to: small, by: piece) {
                try writer.writePiece(bytes.slice(offset: start, count: min(piece, small - start)))
            }
            try writer.writePiece(bytes.slice(offset: small, count: bytes.count - small))
        }
        let pieces = try #require(try writer.finish())
        #expect(XXH64.digest(of: pieces.view) == XXH64.digest(of: whole.view))
        _ = try LatheFile.open(mapped: pieces)
    }

    @Test func theSameContentsGiveTheSameBytes() throws {
        let folder = try TemporaryFolder()
        for name in ["one", "two"] {
            let writer = try LatheFileWriter(
                .path(folder.path(name)), metadata: [("lathe.graph", "{\"nodes\":[]}")], tensors: declarations)
            for declaration in declarations { try writer.write(ByteView(copying: data(declaration.byteCount))) }
            #expect(try writer.finish() == nil)
        }
        let one = try folder.bytes("one")
        #expect(one == (try folder.bytes("two")))
        #expect(one == (try memoryFile(declarations).view.array()))
        #expect(try LatheFile.open(path: folder.path("one")).tensors.count == 5)
        // Golden: a change of these bytes is a change of the format.
        #expect(hexadecimal(XXH64.digest(of: ByteView(copying: one))) == "63aa14f6902a5b04")
    }

    @Test func anySafetensorsReaderListsIt() throws {
        let file = try SafetensorsFile.open(mapped: try memoryFile(declarations))
        #expect(file.tensors.count == 5)
        #expect(file.headerByteCount == 4096)
    }

    /// Tensors whose sizes are known late: room for the header is reserved, and what it does not need is spaces.
    @Test(arguments: [4096, 8192, 40960])
    func declarationsMayComeOneByOne(room: Int) throws {
        let early = try LatheFile.open(mapped: try memoryFile(declarations))
        func late() throws -> MappedFile {
            let writer = try LatheFileWriter(.memory(name: "late"), headerByteCount: room)
            #expect(writer.byteCount == room)
            for declaration in declarations {
                writer.declare([declaration])
                try writer.write(ByteView(copying: data(declaration.byteCount)))
            }
            return try #require(try writer.finish(metadata: [("lathe.graph", "{\"nodes\":[]}")]))
        }
        let file = try late()
        #expect(file.view.hasSameBytes(as: try late().view))
        let opened = try LatheFile.open(mapped: file)
        #expect(opened.headerByteCount == room)
        func written(_ file: LatheFile) -> [String: String] {
            file.metadata.filter { $0.key != "lathe.header_checksum" }
        }
        #expect(written(opened) == written(early))
        #expect(opened.tensors.map(\.name) == early.tensors.map(\.name))
        #expect(opened.tensors.map(\.shape) == early.tensors.map(\.shape))
        for tensor in opened.tensors {
            #expect(try opened.bytes(of: tensor.name).hasSameBytes(as: early.bytes(of: tensor.name)))
        }
        // A room that is just enough gives the file that is declared beforehand.
        let whole = try memoryFile(declarations)
        #expect(file.view.hasSameBytes(as: whole.view) == (room == early.headerByteCount))
        #expect(
            LatheFileWriter.headerByteCount(metadata: [("lathe.graph", "{\"nodes\":[]}")], tensors: declarations)
                == early.headerByteCount)
    }

    @Test func longHeadersTakeMorePages() throws {
        let file = try LatheFile.open(
            mapped: try memoryFile(declarations, metadata: [("lathe.graph", String(repeating: "\"", count: 10_000))]))
        #expect(file.headerByteCount == 24_576)
        #expect(file.metadata["lathe.graph"]?.utf8.count == 10_000)
        let empty = try LatheFile.open(mapped: try memoryFile([], metadata: []))
        #expect(empty.byteCount == 4096)
    }

    // MARK: FAULTS 16

    @Test func everyBitOfTheHeaderCounts() throws {
        let original = try memoryFile(declarations).view.array()
        #expect(refusal(original, verify: true) == nil)
        for offset in 0..<4096 {
            for bit in 0..<8 {
                var bytes = original
                bytes[offset] ^= 1 << bit
                let error = refusal(bytes, verify: false)
                #expect(error != nil, "bit \(bit) of byte \(offset)")
            }
        }
    }

    @Test func damagedTensorsAreCaughtByName() throws {
        let original = try memoryFile(declarations).view.array()
        let file = try LatheFile.open(mapped: try mapped(original))
        for offset in 4096..<original.count {
            var bytes = original
            bytes[offset] ^= 1 << (offset % 8)
            let error = refusal(bytes, verify: true)
            let tensor = file.tensors.first { offset >= $0.fileOffset && offset < $0.fileOffset + $0.byteCount }
            #expect(error?.code == .corrupt)
            #expect(error?.message.contains("the tensor \(quoted(tensor?.name ?? "?"))") == true)
            #expect(refusal(bytes, verify: false) == nil)
        }
    }

    /// FAULTS 9 for this format.
    @Test func truncationsAreRefused() throws {
        let original = try memoryFile(declarations).view.array()
        for point in 0..<64 {
            #expect(refusal(Array(original[..<(original.count * point / 64)]), verify: false) != nil)
        }
        #expect(refusal(original + [0], verify: false) != nil)
    }

    @Test func mutationsAreRefused() throws {
        let original = try memoryFile(declarations).view.array()
        var generator = SplitMix64(seed: 11)
        for _ in 0..<3000 {
            var bytes = original
            for _ in 0...Int.random(in: 0..<3, using: &generator) {
                let index = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[index] ^= UInt8.random(in: 1...255, using: &generator)
                case 1: bytes.remove(at: index)
                default: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: index)
                }
            }
            #expect(bytes == original || refusal(bytes, verify: true) != nil)
        }
    }

    // MARK: Other files

    @Test func otherSafetensorsFilesAreSaidToBeSo() throws {
        let error = refusal(safetensors("{}"), verify: true)
        #expect(error?.code == .unsupported)
        #expect(error?.message.contains("no .lathe file") == true)
        let newer = refusal(safetensors(#"{"__metadata__":{"lathe.version":"2"}}"#), verify: true)
        #expect(newer?.code == .unsupported)
        #expect(newer?.message.contains("format version \"2\"") == true)
        let operations = refusal(
            safetensors(#"{"__metadata__":{"lathe.version":"1","lathe.operations":"1"}}"#), verify: true)
        #expect(operations?.message.contains("operation set \"1\"") == true)
        let rewritten = refusal(
            safetensors(
                #"{"__metadata__":{"lathe.version":"1","lathe.operations":"2","lathe.checksum":"xxh64"}}"#),
            verify: true)
        #expect(rewritten?.message.contains("not as lathe writes it") == true)
    }

    /// A header with a right checksum of its own whose tensors lie elsewhere than lathe puts them.
    @Test func unalignedTensorsAreRefused() throws {
        let declaration = TensorDeclaration(name: "x", dtype: .u8, shape: [32])
        let metadata = [
            ("lathe.header_checksum", hexadecimal(0)), ("lathe.version", "1"), ("lathe.operations", "2"),
            ("lathe.checksum", "xxh64"), ("lathe.checksums", "{\"x\":\"\(hexadecimal(0))\"}"),
        ]
        var header = SafetensorsHeader.bytes(metadata: metadata, tensors: [declaration], multiple: 4096)
        let digits = Array(hexadecimal(LatheLayout.headerChecksum(ByteView(copying: header))).utf8)
        header.replaceSubrange(LatheLayout.headerChecksumOffset..<LatheLayout.headerChecksumOffset + 16, with: digits)
        let error = refusal(header + [UInt8](repeating: 0, count: 32), verify: false)
        #expect(error?.message.contains("\"x\" of 32 bytes at byte 4096 is not aligned") == true)
    }

    // MARK: FAULTS 17

    @Test(arguments: [28, 5] as [Int32])
    func aFailingWriteLeavesTheOldFile(code: Int32) throws {
        let folder = try TemporaryFolder()
        _ = try folder.write([1, 2, 3], to: "model.lathe")
        let declarations = [TensorDeclaration(name: "a", dtype: .u8, shape: [700_000])] + self.declarations
        var failures = 0
        for step in 0... {
            var met = false
            let error = error { () throws(LatheError) in
                let writer = try LatheFileWriter(
                    .path(folder.path("model.lathe")), metadata: [], tensors: declarations
                ) { operation, number in
                    met = met || number == step
                    return number == step && operation != .syncFolder ? .error(code) : nil
                }
                for declaration in declarations { try writer.write(ByteView(copying: data(declaration.byteCount))) }
                try writer.finish()
            }
            #expect(try folder.names() == ["model.lathe"])
            if error == nil { break }
            #expect(met)
            #expect(try folder.bytes("model.lathe") == [1, 2, 3])
            failures += 1
        }
        // Create, three writes, sync, rename; and a link where the temporary file had no name.
        #expect((6...7).contains(failures))
        #expect(try LatheFile.open(path: folder.path("model.lathe")).tensors.count == 6)
    }
}
