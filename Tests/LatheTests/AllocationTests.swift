import Foundation
import LatheFormat
import Testing

/// A step of the engine takes nothing from the system and gives nothing back: counted in a process of its own, whose
/// malloc, free and mmap are ours (Tests/Support/Allocations/counter.c, by LD_PRELOAD).
///
/// What a step is, and what delivery to the caller is instead, says `ComputePhase`.
@Suite(.serialized, .enabled(if: AllocationCount.isPossible, "counting needs Linux with glibc, and clang"))
struct AllocationTests {
    // MARK: The counter itself

    @Test(arguments: [
        ("nothing", 0, 0, 0, 0, 0), ("once", 1, 0, 0, 0, 0), ("resize", 0, 1, 0, 0, 0), ("free", 0, 0, 1, 0, 0),
        ("map", 0, 0, 0, 1, 1),
        // By a thread that the counted one made; by one made where threads do not join; when nothing is to be counted.
        ("worker", 1, 0, 0, 0, 0), ("stranger", 0, 0, 0, 0, 0), ("outside", 0, 0, 0, 0, 0),
    ])
    func counterCounts(
        check: String, allocated: Int, resized: Int, freed: Int, mapped: Int, unmapped: Int
    ) async throws {
        let (counts, stacks) = try await AllocationCount.run("check", check)
        let count = try #require(counts.first)
        #expect(count.step == [allocated, resized, freed, mapped, unmapped], "\(stacks)")
        #expect(count.joined == (check == "worker" ? 1 : 0))
        #expect(stacks.isEmpty == (count.step.allSatisfy { $0 == 0 }), "\(stacks)")
    }

    @Test func referencesAreCounted() async throws {
        let (counts, _) = try await AllocationCount.run("check", "reference")
        let count = try #require(counts.first)
        #expect(count.references == 10 && count.step == [0, 0, 0, 0, 0])
    }

    // MARK: The engine

    @Test(arguments: ["f32", "int8", "int4", "int8-sparse", "int4-sparse"], [1, 2])
    func stepTakesNoMemory(weights: String, threads: Int) async throws {
        try await expectNone("synthetic", weights, threads)
    }

    @Test(arguments: [1, 2])
    func stepOfTheBundledModelTakesNoMemory(threads: Int) async throws {
        try await expectNone("\(TestModels.package)/models/novelist", "int8", threads)
    }

    private func expectNone(_ checkpoint: String, _ weights: String, _ threads: Int) async throws {
        let (counts, stacks) = try await AllocationCount.run("engine", checkpoint, weights, "\(threads)")
        #expect(counts.count >= 10)
        let found = counts.filter { $0.step.contains { $0 > 0 } }
        #expect(found.isEmpty, "\(stacks)")
        // Delivery is not counted as a step: streams allocate now and then.
        #expect(counts.contains { $0.delivery.contains { $0 > 0 } })
        // Workers of the team beside; not in each case, since the caller does the share of one that gets no processor.
        #expect(counts.contains { $0.joined > 0 } == (threads > 1), "\(counts)")
        for count in counts {
            // Something was counted at all: a prompt's chunks and a text's tokens.
            #expect(count.entries > (count.name.hasPrefix("scored") ? 3 : 40), "\(count)")
            // Retains and releases: the scheduler's few for each session, none for each operation or head.
            let most = count.name.contains("8 sessions") ? 24 : 16
            #expect(count.references <= most * count.entries, "\(count)")
        }
    }
}

/// What AllocationProbe says of one case.
struct AllocationCount: CustomStringConvertible {
    let name: String
    /// How often the compute thread came to a step, or back to it from delivery.
    let entries: Int
    /// Threads of the process that were counted beside the compute thread.
    let joined: Int
    /// Retains and releases in steps.
    let references: Int
    /// malloc and its like, realloc, free, mmap, munmap.
    let step, delivery: [Int]

    var description: String {
        "\(name): \(step) in \(entries) entries, \(joined) joined, \(references) references; delivery \(delivery)"
    }

    private init(_ line: String) throws {
        let object = try JSON.parse(Array(line.utf8), source: "AllocationProbe").object(at: "line")
        func counts(_ key: String) throws -> [Int] {
            try object.value(key, in: "line").object(at: key).members.map { try $0.value.int(at: $0.key) }
        }
        name = try object.string("name", in: "line")
        entries = try object.int("entries", in: "line")
        joined = try object.int("joined", in: "line")
        references = try object.int("references", in: "line")
        step = try counts("step")
        delivery = try counts("delivery")
    }

    /// Runs the probe with the counter preloaded.
    ///
    /// - Returns: its lines, and the backtraces of what was counted in a step.
    static func run(_ arguments: String...) async throws -> (counts: [AllocationCount], stacks: String) {
        // Beside the test bundle, where the package manager puts every product.
        let probe = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path + "/AllocationProbe"
        let (status, output, errors) = try await execute(
            probe, arguments, environment: ["LD_PRELOAD": try library.get(), "SWIFT_BACKTRACE": "enable=no"])
        try #require(status == 0, "\(errors)")
        let counts = try output.split(separator: "\n").map { try AllocationCount(String($0)) }
        return (counts, try await symbolicated(errors))
    }

    static var isPossible: Bool {
        #if os(Linux) && canImport(Glibc)
            clang != nil
        #else
            false
        #endif
    }

    private static let clang = find("clang")

    private static func find(_ tool: String) -> String? {
        ProcessInfo.processInfo.environment["PATH"]?.split(separator: ":").map { "\($0)/\(tool)" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    /// The counter, compiled once; left in the temporary folder, since processes may still use it.
    private static let library = Result {
        let source = "\(TestModels.package)/Tests/Support/Allocations/counter.c"
        let path = NSTemporaryDirectory() + "lathe-allocations-\(ProcessInfo.processInfo.processIdentifier).so"
        let process = Process()
        process.executableURL = URL(fileURLWithPath: clang!)
        process.arguments = ["-std=gnu11", "-O1", "-g", "-shared", "-fPIC", "-fvisibility=hidden", source, "-o", path]
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw LatheError(.io, "\(source) does not compile.") }
        return path
    }

    private static func execute(
        _ executable: String, _ arguments: [String], input: String = "", environment: [String: String] = [:]
    ) async throws -> (status: Int32, output: String, errors: String) {
        let folder = URL(fileURLWithPath: NSTemporaryDirectory() + "lathe-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        // Files rather than pipes: nothing can fill up.
        let files = ["in", "out", "err"].map { folder.appendingPathComponent($0) }
        for (file, text) in zip(files, [input, "", ""]) { try Data(text.utf8).write(to: file) }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = try FileHandle(forReadingFrom: files[0])
        process.standardOutput = try FileHandle(forWritingTo: files[1])
        process.standardError = try FileHandle(forWritingTo: files[2])
        try process.run()
        while process.isRunning { try await Task.sleep(for: .milliseconds(5)) }
        return (
            process.terminationStatus, String(decoding: try Data(contentsOf: files[1]), as: UTF8.self),
            String(decoding: try Data(contentsOf: files[2]), as: UTF8.self)
        )
    }

    /// Puts names in the place of `PATH(+0xOFFSET)`, where the tools for it are there: the program exports few of its own.
    private static func symbolicated(_ stacks: String) async throws -> String {
        guard !stacks.isEmpty, let symbolizer = find("llvm-symbolizer"), let swift = find("swift") else {
            return stacks
        }
        // A few of them say it.
        var lines = stacks.split(separator: "\n").prefix(60).map(String.init)
        for (index, line) in lines.enumerated() {
            let parts = line.split(whereSeparator: { "()".contains($0) })
            guard parts.count > 1, parts[1].hasPrefix("+0x"), parts[0].hasSuffix("AllocationProbe") else { continue }
            let (_, output, _) = try await execute(
                symbolizer, ["--obj=\(parts[0])", "--functions", "--inlining", String(parts[1].dropFirst())])
            lines[index] = "  " + output.split(separator: "\n").joined(separator: " ")
        }
        return try await execute(swift, ["demangle", "--simplified"], input: lines.joined(separator: "\n")).output
    }
}
