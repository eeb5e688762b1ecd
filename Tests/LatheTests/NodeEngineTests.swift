import CKernels
import LatheCompiler
import LatheFormat
import TestSupport
import Testing

@testable import Lathe

/// Engines on machines with several memory nodes: the same bits, the memory that was planned, and what the system was told.
@Suite struct NodeEngineTests {
    private static let formats: [(WeightFormats, SparseStorage)] = [
        (.float32, .auto), (.int8, .off), (.int8, .on), (.int4, .off), (.int4, .on),
    ]

    private func options(_ system: NodeSystem, threads: Int = 4, level: String? = nil) -> EngineOptions {
        var options = EngineOptions()
        options.threads = threads
        options.nodeSystem = system
        options.instructionSet = level
        options.memoryBudget = 1 << 40
        return options
    }

    private func off(threads: Int = 4) -> EngineOptions {
        var options = options(.machine, threads: threads)
        options.numa = .off
        return options
    }

    @Test(arguments: formats.indices, InstructionSet.available.map(\.name))
    func nodesChangeNoBitAndNoPlan(format: Int, level: String) async throws {
        let (weights, sparse) = Self.formats[format]
        let model = try TestModels.model("novelist", weights, sparse: sparse)
        let tokens = Array(try TestModels.tokens("novelist").prefix(20))
        let expected = try await Engine(model: model, options: off()).logitBits(tokens)
        for counts in [[2, 2], [1, 3], [2, 1, 1]] {
            let machine = NodeMachine()
            let plan = try MemoryPlan(
                model: model, options: options(machine.system(NodeMachine.nodes(counts)), level: level))
            #expect(plan.layout.weights.source == .leavingMap)
            let ledger = plan.makeLedger()
            let engine = try Engine(model: model, plan: plan, ledger: ledger)
            #expect(firstDifference(try await engine.logitBits(tokens), expected) == nil, "\(counts)")
            #expect(ledger.current(.weights) == plan.layout.weights.byteCount)
            #expect(ledger.peak(.weights) <= plan.layout.weights.peakByteCount)
            #expect(await engine.readBandwidth() > 0)

            #expect(engine.nodes.nodes == Array(counts.indices))
            #expect(machine.bound == counts.indices.flatMap { Array(repeating: $0, count: counts[$0]) })
            #expect(machine.placed.reduce(0) { $0 + $1.pages.count } == engine.placedWeightBytes)
            // Of novelist's int4 matrices some are small, and vectors and a position table are not placed.
            #expect(Double(engine.placedWeightBytes) > 0.6 * Double(engine.residentWeightBytes))
            for (node, count) in counts.enumerated() {
                let bytes = machine.placed.filter { $0.node == node }.reduce(0) { $0 + $1.pages.count }
                let part = Double(bytes) / Double(engine.placedWeightBytes)
                #expect(abs(part - Double(count) / 4) < 0.1, "node \(node) of \(counts) has \(part)")
            }
            let ranges = machine.placed.map(\.pages).sorted { $0.lowerBound < $1.lowerBound }
            for (range, next) in zip(ranges, ranges.dropFirst()) { #expect(range.upperBound <= next.lowerBound) }
        }
    }

    /// However the file became memory; a copy is placed where it is, and needs no other.
    @Test(arguments: WeightPlacement.allCases, [SparseStorage.off, .on])
    func everyPlacement(placement: WeightPlacement, sparse: SparseStorage) async throws {
        let folder = try TemporaryFolder()
        let path = folder.path("model.lathe")
        _ = try Compiler(recipe: Recipe(weights: .int8, sparse: sparse)).compile(
            checkpoint: "\(TestModels.package)/models/novelist", output: path)
        let tokens = Array(try TestModels.tokens("novelist").prefix(10))
        let expected = try await Engine(model: try Model.open(path), options: off()).logitBits(tokens)
        let machine = NodeMachine()
        let model = try Model.open(path, placement: placement)
        let plan = try MemoryPlan(model: model, options: options(machine.system(NodeMachine.nodes([2, 2]))))
        let engine = try Engine(model: model, plan: plan)
        #expect(firstDifference(try await engine.logitBits(tokens), expected) == nil)
        #expect(engine.placedWeightBytes > 0)
        let stored = model.file.outline.weightByteCount
        if placement == .copy {
            #expect(plan.layout.weights.source != .leavingMap)
        } else {
            let largest = try #require(model.file.graph.parameters.map(\.byteCount).max())
            let unexpanded = engine.residentWeightBytes == stored
            #expect(!unexpanded || plan.layout.weights.peakByteCount == stored + largest)
        }
        #expect(plan.layout.weights.byteCount >= stored)
    }

    /// Of one node nothing is asked, and a mapped file is used where it lies.
    @Test(arguments: [[2], [4, 0], []])
    func oneNodeHasNoEffect(counts: [Int]) async throws {
        let machine = NodeMachine()
        let model = try TestModels.model("novelist", .int8)
        let options = options(machine.system(NodeMachine.nodes(counts)))
        let plan = try MemoryPlan(model: model, options: options)
        #expect(plan.layout.weights.source == .inPlace)
        #expect(plan.totalByteCount == (try MemoryPlan(model: model, options: off())).totalByteCount)
        let engine = try Engine(model: model, plan: plan)
        _ = try await engine.makeSession().all([1, 2], GenerationOptions(2))
        #expect(machine.placed.isEmpty && machine.bound.isEmpty)
        #expect(engine.nodes.nodes.isEmpty && engine.nodes.source == "one node" && engine.placedWeightBytes == 0)
    }

    /// The memory of a file that was made in memory cannot be given back, so that a copy would take it twice.
    @Test func whatWasConvertedInMemoryStays() throws {
        let machine = NodeMachine()
        let file = try TestModels.model("novelist", .int8).file
        let model = try Model(file: file, isConvertedInMemory: true)
        let plan = try MemoryPlan(model: model, options: options(machine.system(NodeMachine.nodes([2, 2]))))
        #expect(plan.layout.weights.source == .inPlace && plan.nodes.source == "off")
    }

    // MARK: libnuma itself

    static let aNode = NodeMachine.hasLibnuma ? NodeSystem.usableNodes().nodes.first : nil

    /// The kernel's own list of maps tells where the pages are to lie, and that they kept their bytes.
    @Test(.enabled(if: NodeMachine.hasLibnuma, "no libnuma here"))
    func libnumaPlacesPages() throws {
        let node = try #require(Self.aNode)
        let buffer = AlignedBuffer(byteCount: 1 << 20)
        buffer.withMutableSpan(of: UInt8.self) { bytes in
            for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: index &* 37) }
        }
        let address = unsafe UInt(bitPattern: buffer.elements(of: UInt8.self))
        #expect(NodeSystem.machine.place(address..<address + 1 << 19, node.id))
        let line = try #require(
            Files.readKernelText("/proc/self/numa_maps")?.split(separator: "\n").first {
                $0.hasPrefix(String(address, radix: 16))
            })
        #expect(line.contains("prefer:\(node.id) ") || line.contains("prefer (many):\(node.id) "), "\(line)")
        #expect(line.contains(" N\(node.id)="), "\(line)")
        for index in stride(from: 0, to: 1 << 20, by: 1) {
            guard buffer.view[index] == UInt8(truncatingIfNeeded: index &* 37) else {
                Issue.record("byte \(index) has changed")
                break
            }
        }
        // Neither a node that is not there nor an address that begins no page is taken for done.
        #expect(!NodeSystem.machine.place(address..<address + 4096, 1023))
        #expect(!NodeSystem.machine.place(address + 64..<address + 4096, node.id))
    }

    /// Two nodes made of the processors of one: the real calls, from the engine's own threads.
    @Test(.enabled(if: NodeMachine.hasLibnuma, "no libnuma here"))
    func engineByLibnuma() async throws {
        let node = try #require(Self.aNode)
        let halves = [
            MemoryNode(id: 0, processors: [node.processors[0]]),
            MemoryNode(id: 1, processors: [node.processors[node.processors.count - 1]]),
        ]
        let machine = NodeMachine()
        let real = NodeSystem(
            pageSize: NodeSystem.machine.pageSize, topology: { NodeSystem.Topology(note: "") },
            bindThread: NodeSystem.machine.bindThread, place: { pages, _ in NodeSystem.machine.place(pages, node.id) })
        let model = try TestModels.model("novelist", .int8)
        let tokens = Array(try TestModels.tokens("novelist").prefix(30))
        let expected = try await Engine(model: model, options: off(threads: 2)).logitBits(tokens)
        let engine = try Engine(
            model: model,
            options: options(machine.system(halves, pageSize: real.pageSize, acting: real), threads: 2))
        #expect(firstDifference(try await engine.logitBits(tokens), expected) == nil)
        #expect(machine.bound == [0, 1])
        #expect(machine.placed.reduce(0) { $0 + $1.pages.count } == engine.placedWeightBytes)
        // The engine's threads are kept to their processors, no one else.
        let allowed = NodeSystem.usableNodes().nodes.flatMap(\.processors)
        #expect(allowed.count >= node.processors.count)
    }

    @Test(.enabled(if: NodeMachine.hasLibnuma, "no libnuma here"))
    func libnumaBindsTheCallingThreadAlone() async throws {
        let node = try #require(Self.aNode)
        let processor = try #require(node.processors.last)
        let lists = try await withCheckedThrowingContinuation {
            (continuation: CheckedContinuation<[String?], any Error>) in
            do {
                let thread = try ComputeThread {
                    let works = NodeSystem.machine.bindThread(MemoryNode(id: node.id, processors: [processor]))
                    continuation.resume(returning: [works ? "bound" : nil, allowedList("/proc/thread-self/status")])
                }
                thread.detach()
            } catch { continuation.resume(throwing: error) }
        }
        #expect(lists == ["bound", "\(processor)"])
        let own = try #require(allowedList("/proc/self/status").flatMap { ThreadCount.parseCPUList($0) })
        #expect(own >= node.processors.count)
    }
}

/// `Cpus_allowed_list` of a status file, without its name.
private func allowedList(_ path: String) -> String? {
    let line = Files.readKernelText(path)?.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }
    return line.map { String($0.dropFirst("Cpus_allowed_list:".count)).filter { !$0.isWhitespace } }
}
