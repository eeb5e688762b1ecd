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

@Suite struct InputFileTests {
    @Test func readsAndMapsTheSameBytes() throws {
        let folder = try TemporaryFolder()
        let bytes = (0..<100_001).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let path = try folder.write(bytes, to: "a")
        let mapped = try MappedFile.open(path: path)
        #expect(mapped.byteCount == bytes.count)
        #expect(mapped.view.array() == bytes)
        let file = try InputFile.open(path: path)
        #expect(try file.readAll().array() == bytes)
        #expect(try file.read(offset: 50_000, count: 17).view.array() == Array(bytes[50_000..<50_017]))
        #expect(try file.read(offset: bytes.count, count: 0).byteCount == 0)
        // Hints change nothing that can be seen.
        for advice in [MappedFile.Advice.sequential, .random, .willNeed, .normal] {
            mapped.advise(advice, offset: 5000, count: 10_000)
        }
        mapped.dropPageCache()
        mapped.dropPageCache(offset: 12_345, count: 1)
        file.dropPageCache(offset: 0, count: bytes.count)
        #expect(mapped.view.array() == bytes)
    }

    @Test func viewsKeepTheMapAlive() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write([1, 2, 3, 4], to: "a")
        let view = try MappedFile.open(path: path).view.slice(offset: 1, count: 2)
        #expect(view.array() == [2, 3])
    }

    @Test func emptyFiles() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write([], to: "empty")
        let mapped = try MappedFile.open(path: path)
        #expect(mapped.byteCount == 0)
        #expect(mapped.view.array() == [])
        mapped.advise(.sequential)
        mapped.dropPageCache()
        #expect(try InputFile.open(path: path).readAll().count == 0)
    }

    @Test func whatIsNoFileIsSaidByName() throws {
        let folder = try TemporaryFolder()
        let missing = error { () throws(LatheError) in _ = try MappedFile.open(path: folder.path("nothing")) }
        #expect(missing?.code == .io)
        #expect(missing?.message.contains("nothing\": No such file or directory") == true)
        let directory = error { () throws(LatheError) in _ = try MappedFile.open(path: folder.path) }
        #expect(directory?.message.contains("is a folder") == true)
        #expect(mkfifo(folder.path("fifo"), 0o600) == 0)
        let pipe = error { () throws(LatheError) in _ = try InputFile.open(path: folder.path("fifo")) }
        #expect(pipe?.message.contains("is a pipe") == true)
        let device = error { () throws(LatheError) in _ = try InputFile.open(path: "/dev/null") }
        #expect(device?.message.contains("is a device") == true)
        let empty = error { () throws(LatheError) in _ = try InputFile.open(path: "") }
        #expect(empty?.message.contains("empty path") == true)
        let zero = error { () throws(LatheError) in _ = try InputFile.open(path: folder.path("fifo\0x")) }
        #expect(zero?.message.contains("zero byte") == true)
    }

    @Test func aFileThatShrinksWhileItIsReadIsSaid() throws {
        let folder = try TemporaryFolder()
        let path = try folder.write([UInt8](repeating: 7, count: 5000), to: "a")
        let file = try InputFile.open(path: path)
        #expect(truncate(path, 3000) == 0)
        let error = error { () throws(LatheError) in _ = try file.readAll() }
        #expect(error?.message.contains("ended at byte 3000 while it was read") == true)
    }

    @Test func filesBeyondTheLimitAreRefused() throws {
        let folder = try TemporaryFolder()
        let file = try InputFile.open(path: folder.write([1, 2, 3], to: "a"))
        #expect(try file.readAll(maximumByteCount: 3).count == 3)
        #expect(throws: LatheError.self) { try file.readAll(maximumByteCount: 2) }
    }

    /// FAULTS 19.
    @Test func outputOverInputIsRefused() throws {
        let folder = try TemporaryFolder()
        let input = try folder.write([1], to: "input")
        let other = try folder.write([1], to: "other")
        #expect(link(input, folder.path("hard")) == 0)
        #expect(symlink(input, folder.path("soft")) == 0)
        for output in [input, folder.path("hard"), folder.path("soft"), folder.path("./input")] {
            let error = error { () throws(LatheError) in try checkOutput(output, isNoneOf: [other, input]) }
            #expect(error?.message.contains("name another file for the output") == true)
        }
        try checkOutput(other, isNoneOf: [input])
        try checkOutput(folder.path("new"), isNoneOf: [input, folder.path("absent")])
    }
}

@Suite struct AtomicFileTests {
    private let old = Array("what stood there before".utf8)
    private let new = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 % 251) }

    private func write(
        _ folder: TemporaryFolder, preferNameless: Bool, faultInjection: AtomicFile.FaultInjection?
    ) throws(LatheError) {
        let file = try AtomicFile(
            .path(folder.path("out")), preferNameless: preferNameless, faultInjection: faultInjection)
        let bytes = ByteView(copying: new)
        for start in stride(from: 0, to: new.count, by: 2500) {
            try file.append(bytes.slice(offset: start, count: 2500))
        }
        try file.write(bytes.slice(offset: 0, count: 100), at: 0)
        try file.finish()
    }

    @Test(arguments: [true, false], [true, false])
    func writesAndReplaces(preferNameless: Bool, replacing: Bool) throws {
        let folder = try TemporaryFolder()
        if replacing {
            _ = try folder.write(old, to: "out")
            #expect(chmod(folder.path("out"), 0o640) == 0)
        }
        try write(folder, preferNameless: preferNameless, faultInjection: nil)
        #expect(try folder.bytes("out") == new)
        #expect(try folder.names() == ["out"])
        if replacing { #expect(try FileStatus.of(path: folder.path("out")).permissions == 0o640) }
    }

    /// FAULTS 17: each step in turn fails, until a run meets no fault any more.
    @Test(arguments: [true, false], [ENOSPC, EIO])
    func aFailingStepLeavesTheDestinationUntouched(preferNameless: Bool, code: Int32) throws {
        let folder = try TemporaryFolder()
        _ = try folder.write(old, to: "out")
        var failures: [AtomicFile.Operation] = []
        for step in 0... {
            var met: AtomicFile.Operation?
            let error = error { () throws(LatheError) in
                try write(folder, preferNameless: preferNameless) { operation, number in
                    if number != step { return nil }
                    met = operation
                    return .error(code)
                }
            }
            guard let met else {
                #expect(error == nil)
                break
            }
            failures.append(met)
            #expect(error?.code == .io)
            #expect(error?.message.contains("out") == true)
            #expect(try folder.names() == ["out"])
            if met == .syncFolder {
                #expect(try folder.bytes("out") == new)
                _ = try folder.write(old, to: "out")
            } else {
                #expect(try folder.bytes("out") == old)
            }
        }
        #expect(failures.filter { $0 == .write }.count == 5)
        #expect(Set(failures) == [.create, .write, .sync, .publish, .syncFolder])
        #expect(try folder.bytes("out") == new)
    }

    @Test(arguments: [ENOSPC, EIO])
    func theSystemsWordsAreInTheMessage(code: Int32) throws {
        let folder = try TemporaryFolder()
        let error = error { () throws(LatheError) in
            try write(folder, preferNameless: true) { operation, _ in operation == .write ? .error(code) : nil }
        }
        let words = code == ENOSPC ? "No space left on device" : "Input/output error"
        #expect(error?.message == "Cannot write \(quoted(folder.path("out"))) at byte 0: \(words).")
    }

    @Test func shortAndInterruptedWritesGoOn() throws {
        let folder = try TemporaryFolder()
        try write(folder, preferNameless: true) { operation, step in
            if operation != .write { return nil }
            return step % 3 == 0 ? .error(EINTR) : .short(step % 3 == 1 ? 137 : 0)
        }
        #expect(try folder.bytes("out") == new)
    }

    @Test(arguments: [true, false])
    func anUnfinishedFileVanishes(preferNameless: Bool) throws {
        let folder = try TemporaryFolder()
        _ = try folder.write(old, to: "out")
        do {
            let file = try AtomicFile(.path(folder.path("out")), preferNameless: preferNameless)
            try file.append(ByteView(copying: new))
            if !preferNameless { #expect(try folder.names().count == 2) }
        }
        #expect(try folder.names() == ["out"])
        #expect(try folder.bytes("out") == old)
    }

    @Test func destinationsThatCannotBeAreRefused() throws {
        let folder = try TemporaryFolder()
        #expect(mkfifo(folder.path("fifo"), 0o600) == 0)
        for path in ["", folder.path, folder.path + "/", folder.path("."), folder.path("no/such"), folder.path("fifo")]
        {
            #expect(throws: LatheError.self) { try AtomicFile(.path(path)) }
        }
        #expect(try folder.names() == ["fifo"])
    }

    @Test func gapsReadAsZeros() throws {
        let folder = try TemporaryFolder()
        let file = try AtomicFile(.path(folder.path("out")))
        try file.write(ByteView(copying: [1, 2]), at: 3)
        #expect(file.byteCount == 5)
        try file.finish()
        #expect(try folder.bytes("out") == [0, 0, 0, 1, 2])
    }

    @Test func memoryFilesEndAsMaps() throws {
        let file = try AtomicFile(.memory(name: "the compiled model"))
        try file.append(ByteView(copying: new))
        let mapped = try #require(try file.finish())
        #expect(mapped.path == "the compiled model")
        #expect(mapped.view.array() == new)
        let empty = try #require(try AtomicFile(.memory(name: "nothing")).finish())
        #expect(empty.byteCount == 0)
    }
}
