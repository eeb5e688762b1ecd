import TestSupport
import Testing

@testable import LatheFormat

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// A file of a length field, a header and data.
func safetensors(_ header: String, _ data: [UInt8] = []) -> [UInt8] { safetensors(Array(header.utf8), data) }

func safetensors(_ header: [UInt8], _ data: [UInt8] = [], length: UInt64? = nil) -> [UInt8] {
    let length = length ?? UInt64(header.count)
    return (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + header + data
}

@Suite struct SafetensorsTests {
    /// Opens by both ways of access, which must agree.
    private func open(_ bytes: [UInt8]) throws -> SafetensorsFile {
        let folder = try TemporaryFolder()
        let path = try folder.write(bytes, to: "model.safetensors")
        let read = Result { try SafetensorsFile.open(path: path, access: .read) }
        let mapped = Result { try SafetensorsFile.open(path: path, access: .mapped) }
        #expect((try? read.get().tensors) == (try? mapped.get().tensors))
        return try mapped.get()
    }

    private func refusal(_ bytes: [UInt8]) throws -> LatheError? {
        do {
            _ = try open(bytes)
            return nil
        } catch let error as LatheError {
            #expect(error.message.contains("model.safetensors"))
            return error
        }
    }

    private func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }

    // MARK: What is valid (the crate's own unit cases, rebuilt)

    @Test(
        arguments: [
            (#"{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}"#, 16, 1),
            (#"{"test":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}"#, 4, 1),
            (#"{"test":{"dtype":"I32","shape":[2,0],"data_offsets":[0, 0]}}"#, 0, 1),
            (#"{"attn.0":{"dtype":"F4","shape":[1,2],"data_offsets":[0,1]}}    "#, 1, 1),
            (#"{}"#, 0, 0), (#"{}      "#, 0, 0), ("  {}\n \t\r", 0, 0), (#"{"__metadata__":null}"#, 0, 0),
            (#"{"__metadata__":{"framework":"pt"}}     "#, 0, 0),
            (#"{"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 1, 1),
            (#"{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"more":[{}]}}"#, 2, 1),
            (
                #"{"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"#
                    + #""z":{"dtype":"F64","shape":[0],"data_offsets":[2,2]}}"#, 4, 3
            ),
        ] as [(String, Int, Int)])
    func accepts(header: String, dataByteCount: Int, tensorCount: Int) throws {
        let file = try open(safetensors(header, zeros(dataByteCount)))
        #expect(file.tensors.count == tensorCount)
        #expect(file.headerByteCount == 8 + header.utf8.count)
        for tensor in file.tensors { #expect(try file.bytes(of: tensor.name).count == tensor.byteCount) }
    }

    @Test func tensorsComeInTheOrderOfTheirBytes() throws {
        let header =
            #"{"b":{"dtype":"U16","shape":[1,2],"data_offsets":[3,7]},"__metadata__":{"k":"v","é":""},"#
            + #""a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#
        let file = try open(safetensors(header, [1, 2, 3, 4, 5, 6, 7]))
        #expect(file.tensors.map(\.name) == ["a", "b"])
        #expect(file["a"]?.shape == [3])
        #expect(file["b"]?.fileOffset == file.headerByteCount + 3)
        #expect(file["b"]?.elementCount == 2)
        #expect(try file.bytes(of: "b").array() == [4, 5, 6, 7])
        #expect(file.metadata == ["k": "v", "é": ""])
        #expect(file["c"] == nil)
        let error = error { () throws(LatheError) in _ = try file.bytes(of: "c") }
        #expect(error?.code == .missing)
        #expect(error?.message.contains("no tensor \"c\"") == true)
        for tensor in file.tensors { file.dropPageCache(of: tensor) }
        #expect(try file.bytes(of: "a").array() == [1, 2, 3])
    }

    @Test(arguments: DType.allCases)
    func everyTypeHasItsWidth(dtype: DType) throws {
        let count = dtype.bitWidth
        let header = #"{"x":{"dtype":"\#(dtype.rawValue)","shape":[8],"data_offsets":[0,\#(count)]}}"#
        let file = try open(safetensors(header, zeros(count)))
        #expect(file["x"]?.dtype == dtype)
        #expect(try file.bytes(of: "x").count == count)
        #expect(try refusal(safetensors(header, zeros(count + 1))) != nil)
        #expect(try refusal(safetensors(header, zeros(count - 1))) != nil)
    }

    // MARK: What is not

    /// FAULTS 1.
    @Test(arguments: 0..<8) func shortFiles(count: Int) throws {
        #expect(try refusal(zeros(count))?.message.contains("too few") == true)
    }

    /// FAULTS 2.
    @Test(arguments: [100_000_001, UInt64(Int64.max), 1 << 63, .max, .max - 7])
    func headersTooLong(length: UInt64) throws {
        let error = try refusal(safetensors(Array("{}".utf8), length: length))
        #expect(error?.message.contains("\(length) bytes") == true)
    }

    /// FAULTS 3.
    @Test(arguments: [3, 4, 100, 100_000_000] as [UInt64]) func headersPastTheEnd(length: UInt64) throws {
        #expect(try refusal(safetensors(Array("{}".utf8), length: length))?.message.contains("truncated") == true)
    }

    /// FAULTS 4.
    @Test func headersThatAreNoJSON() throws {
        #expect(try refusal(safetensors([0xFF]))?.message.contains("at byte 0") == true)
        #expect(
            try refusal(safetensors(Array("{\"".utf8) + [0xC3, 0x28, 0x22]))?.message.contains("not UTF-8") == true)
        let deep = #"{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"y":"# + String(repeating: "[", count: 63)
        #expect(
            try refusal(safetensors(deep + String(repeating: "]", count: 63) + "}}"))?.message
                .contains("nested more than 64 deep") == true)
        for header in ["", "{", "[]", "1", "null", "{}\0", "{} {}", "{'a':1}"] {
            #expect(try refusal(safetensors(header)) != nil)
        }
    }

    /// FAULTS 5.
    @Test func duplicateKeys() throws {
        let entry = #"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#
        for header in [
            #"{"x":\#(entry),"x":\#(entry)}"#, #"{"__metadata__":{},"__metadata__":{}}"#,
            #"{"__metadata__":{"x":"","x":""}}"#,
            #"{"x":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
        ] {
            #expect(try refusal(safetensors(header))?.message.contains("occurs twice") == true)
        }
        let error = try refusal(safetensors("{\"\u{E9}\":\(entry),\"e\u{301}\":\(entry)}".utf8.map { $0 }))
        #expect(error?.message.contains("twice") == true)
    }

    /// FAULTS 6.
    @Test(arguments: [
        (
            #"{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
            6
        ),
        (
            #"{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
            4
        ),
        (
            #"{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}}"#,
            8
        ),
        (#"{"x":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#, 6),
        (
            #"{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"z":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}"#,
            2
        ),
        (
            #"{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"z":{"dtype":"U8","shape":[0],"data_offsets":[3,3]}}"#,
            2
        ),
    ])
    func overlapsAndHoles(header: String, dataByteCount: Int) throws {
        let message = try refusal(safetensors(header, zeros(dataByteCount)))?.message
        #expect(message?.contains("overlaps") == true || message?.contains("hole") == true)
        #expect(message?.contains("the tensor \"") == true)
    }

    /// FAULTS 6.
    @Test func trailingBytes() throws {
        let header = #"{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}"#
        let error = try refusal(safetensors(header, zeros(17)))
        #expect(error?.message.contains("has 1 bytes behind its last tensor") == true)
        #expect(try refusal(safetensors("{}", zeros(1))) != nil)
    }

    /// FAULTS 7.
    @Test(arguments: [
        "-1", "1.0", "1e3", "0.5", "-0", "18446744073709551614", "9223372036854775807,2", "4294967296,4294967296",
        "9223372036854775807,9223372036854775807,0", "2305843009213693952", "\"4\"", "null", "[4]", "true",
    ])
    func dimensions(shape: String) throws {
        let error = try refusal(
            safetensors(#"{"x":{"dtype":"F32","shape":[\#(shape)],"data_offsets":[0,16]}}"#, zeros(16)))
        #expect(error?.message.contains("tensor \"x\"") == true)
    }

    /// FAULTS 8, and entries that are not what an entry must be.
    @Test(arguments: [
        #"{"dtype":"I32","shape":[2,2],"data_offsets":[0, 4]}"#, #"{"dtype":"I32","shape":[5],"data_offsets":[0,16]}"#,
        #"{"dtype":"F4","shape":[3],"data_offsets":[0,2]}"#, #"{"dtype":"F6_E2M3","shape":[2],"data_offsets":[0,2]}"#,
        #"{"dtype":"F33","shape":[4],"data_offsets":[0,16]}"#, #"{"dtype":"i32","shape":[4],"data_offsets":[0,16]}"#,
        #"{"dtype":1,"shape":[4],"data_offsets":[0,16]}"#, #"{"shape":[4],"data_offsets":[0,16]}"#,
        #"{"dtype":"I32","data_offsets":[0,16]}"#, #"{"dtype":"I32","shape":[4]}"#,
        #"{"dtype":"I32","shape":4,"data_offsets":[0,16]}"#, #"{"dtype":"I32","shape":[4],"data_offsets":[0,16,16]}"#,
        #"{"dtype":"I32","shape":[4],"data_offsets":[16]}"#, #"{"dtype":"I32","shape":[4],"data_offsets":[16,0]}"#,
        #"{"dtype":"I32","shape":[4],"data_offsets":[-16,0]}"#, #"{"dtype":"I32","shape":[4],"data_offsets":[0,16.0]}"#,
        #"{"dtype":"U8","shape":[0],"data_offsets":[9223372036854775807,9223372036854775807]}"#,
        #"["I32",[4],[0,16]]"#, "null", "{}",
    ])
    func entries(entry: String) throws {
        #expect(try refusal(safetensors(#"{"x":\#(entry)}"#, zeros(16)))?.message.contains("tensor \"x\"") == true)
    }

    @Test func metadataMustBeStrings() throws {
        for metadata in ["1", "[]", "\"x\"", #"{"a":1}"#, #"{"a":null}"#, #"{"a":{}}"#] {
            #expect(try refusal(safetensors(#"{"__metadata__":\#(metadata)}"#)) != nil)
        }
    }

    /// FAULTS 9.
    @Test func truncations() throws {
        let header =
            #"{"x":{"dtype":"F32","shape":[32],"data_offsets":[0,128]},"y":{"dtype":"U8","shape":[72],"data_offsets":[128,200]}}"#
        let bytes = safetensors(header, zeros(200))
        _ = try open(bytes)
        for point in 0..<64 {
            let count = bytes.count * point / 64
            #expect(try refusal(Array(bytes[..<count])) != nil)
        }
    }

    /// FAULTS 10, the copying half.
    @Test func copyModeIsImmuneToTruncation() throws {
        let folder = try TemporaryFolder()
        let header = #"{"x":{"dtype":"U8","shape":[100000],"data_offsets":[0,100000]}}"#
        let path = try folder.write(safetensors(header, zeros(100_000)), to: "model.safetensors")
        let file = try SafetensorsFile.open(path: path, access: .read)
        #expect(truncate(path, 5000) == 0)
        let error = error { () throws(LatheError) in _ = try file.bytes(of: "x") }
        #expect(error?.message.contains("ended at byte 5000") == true)
        #expect(throws: LatheError.self) { try file.floats(of: "x") }
    }

    /// FAULTS 11.
    @Test func whatWasSavedInTheirPlaceIsSaidByName() throws {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548105171\n"
        #expect(try refusal(Array(pointer.utf8))?.message.contains("Git LFS pointer") == true)
        for page in [
            "<!DOCTYPE html><html>", "\n  <html lang=en>", "\u{FEFF}<!doctype HTML>", "<?xml version=\"1.0\"?>",
        ] {
            let error = try refusal(Array((page + String(repeating: " ", count: 600)).utf8))
            #expect(error?.message.contains("HTML page") == true)
        }
        #expect(try refusal([0x50, 0x4B, 3, 4] + zeros(50))?.message.contains("ZIP") == true)
        #expect(try refusal(Array("GGUF".utf8) + zeros(50))?.message.contains("GGUF") == true)
    }

    /// Random changes of a small file: refused, or every tensor lies within it.
    @Test func mutationsNeverEscape() throws {
        let header =
            #"{"__metadata__":{"a":"b"},"x":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]},"#
            + #""y":{"dtype":"U8","shape":[4],"data_offsets":[8,12]}}"#
        let original = safetensors(header, zeros(12))
        var generator = SplitMix64(seed: 1)
        var accepted = 0
        for _ in 0..<20_000 {
            var bytes = original
            for _ in 0...Int.random(in: 0..<3, using: &generator) {
                let index = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes[index] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes[index] ^= 1 << Int.random(in: 0..<8, using: &generator)
                case 2: bytes.remove(at: index)
                default: bytes.insert(bytes[Int.random(in: 0..<bytes.count, using: &generator)], at: index)
                }
            }
            let view = ByteView(copying: bytes)
            guard
                let length = try? SafetensorsHeader.length(start: view, fileByteCount: bytes.count, source: "x"),
                let parsed = try? SafetensorsHeader.parse(
                    view.slice(offset: 8, count: length), fileByteCount: bytes.count, source: "x")
            else { continue }
            accepted += 1
            var offset = parsed.byteCount
            for tensor in parsed.tensors {
                #expect(tensor.fileOffset == offset)
                #expect(tensor.elementCount * tensor.dtype.bitWidth == tensor.byteCount * 8)
                offset += tensor.byteCount
            }
            #expect(offset == bytes.count)
        }
        #expect(accepted > 100 && accepted < 19_000)
    }

    // MARK: Files that others made

    @Test(
        .enabled(if: sharedDataExists("safetensors-cases/hf_unit"), "the crate's unit cases are not beside the package")
    )
    func theCratesUnitCases() throws {
        let folder = sharedData + "/safetensors-cases/hf_unit/"
        let expected = try JSON.parse(MappedFile.open(path: folder + "expected.json").view, source: "expected.json")
        let cases = try expected.object(at: "expected.json")
        #expect(cases.count == 22)
        for member in cases.members {
            let verdict = try member.value.object(at: member.key).string("expect", in: member.key)
            for access in [SafetensorsFile.Access.mapped, .read] {
                let error = error { () throws(LatheError) in
                    _ = try SafetensorsFile.open(path: folder + member.key, access: access)
                }
                #expect((error == nil) == (verdict == "OK"), "\(member.key): \(error?.message ?? "accepted")")
            }
        }
    }

    @Test(.enabled(if: sharedDataExists("safetensors-cases/samples"), "the samples by type are not beside the package"))
    func theSamples() throws {
        let folder = sharedData + "/safetensors-cases/samples/"
        let overall = try SafetensorsFile.open(path: folder + "overall.safetensors")
        #expect(overall.tensors.count == 9)
        #expect(overall.metadata == ["test": "a"])
        for tensor in overall.tensors {
            let single = try SafetensorsFile.open(path: folder + tensor.name + ".safetensors", access: .read)
            #expect(single.tensors.map(\.dtype) == [tensor.dtype])
            #expect(try single.bytes(of: tensor.name).array() == overall.bytes(of: tensor.name).array())
            if FloatConversion(tensor.dtype) != nil {
                #expect(try single.floats(of: tensor.name).byteCount == 24)
            } else {
                #expect(throws: LatheError.self) { try single.floats(of: tensor.name) }
            }
        }
    }
}
