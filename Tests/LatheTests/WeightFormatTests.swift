import CKernels
import LatheFormat
import Testing

@testable import Lathe

/// Every encoding of weights in the engine: the same bits however it is run, and no more memory than the file where a
/// kernel reads the format.
@Suite struct WeightFormatTests {
    /// Layers of several panels and depth blocks, none a multiple of anything.
    private func model(_ encoding: WeightEncoding, headActivationBits: Int = 16) -> HandMadeModel {
        var m = HandMadeModel(
            vocabulary: 150, context: 80, width: 70, encoding: encoding, headActivationBits: headActivationBits)
        let x = m.embed()
        let wide = m.linear(m.layerNorm(x), to: 210)
        let y = m.add(
            m.linear(m.attention(m.slice(wide, 0, 70), m.slice(wide, 70, 70), m.slice(wide, 140, 70)), to: 70), x)
        m.head(m.layerNorm(m.add(m.linear(m.activation(.geluTanh, m.linear(y, to: 333)), to: 70), y)))
        return m
    }

    private static let tokens: [Int32] = {
        var random = SeededRandom(seed: 5)
        return (0..<70).map { _ in Int32.random(in: 0..<150, using: &random) }
    }()

    @Test(arguments: WeightEncoding.everyQuantized, [8, 16])
    func sameBitsHoweverRun(encoding: WeightEncoding, headActivationBits: Int) async throws {
        let model = try model(encoding, headActivationBits: headActivationBits).model()
        let expected = try await Run(instructionSet: "scalar").engine(model).logitBits(Self.tokens)
        for level in InstructionSet.available {
            for (threads, chunk) in [(1, 512), (1, 1), (2, 7), (3, 64)] {
                let run = Run(instructionSet: level.name, threads: threads, chunk: chunk)
                #expect(firstDifference(try await run.engine(model).logitBits(Self.tokens), expected) == nil, "\(run)")
            }
        }
    }

    /// A format is an encoding of int8 panels: expanded beforehand, the same panels give the same bits.
    @Test(arguments: WeightEncoding.everyQuantized)
    func sameBitsAsItsExpansion(encoding: WeightEncoding) async throws {
        let packed = model(encoding)
        var dense = packed
        var tensors: [(declaration: TensorDeclaration, bytes: [UInt8])] = []
        let bytes = Dictionary(uniqueKeysWithValues: packed.tensors().map { ($0.declaration.name, $0.bytes) })
        for (index, parameter) in packed.graph.parameters.enumerated() {
            if let panels = parameter.encoding.quantized {
                dense.graph.parameters[index].encoding = .qc8w
                let parts = parameter.parts.map { bytes[$0.name]! }
                let values = expand(parameter, panels, parts)
                for (part, bytes) in zip(dense.graph.parameters[index].parts, [values, parts[1], parts[2]]) {
                    tensors.append((TensorDeclaration(name: part.name, dtype: part.dtype, shape: part.shape), bytes))
                }
            } else {
                let part = parameter.parts[0]
                tensors.append(
                    (TensorDeclaration(name: part.name, dtype: part.dtype, shape: part.shape), bytes[part.name]!))
            }
        }
        let file = try HandMadeModel.file(configuration: dense.configuration, graph: dense.graph, tensors: tensors)
        let expected = try await Run().engine(try Model(file: try ModelFile.open(mapped: file, verify: true)))
            .logitBits(Self.tokens)
        let found = try await Run().engine(try packed.model()).logitBits(Self.tokens)
        #expect(firstDifference(found, expected) == nil)
    }

    private func expand(_ parameter: Parameter, _ panels: QuantizedPanels, _ parts: [[UInt8]]) -> [UInt8] {
        let buffers = parts.map { ByteView(copying: $0) }
        let addresses = buffers.map { $0.withUnsafeBytes { $0.baseAddress! } }
        var weights = lathe_weights()
        weights.format = panels.kernelFormat
        (weights.columns, weights.depth) = (parameter.columns, parameter.depth)
        weights.values = addresses[0]
        var next = 3
        if let size = panels.groupSize {
            weights.group_size = size
            weights.multipliers = addresses[next].assumingMemoryBound(to: Int8.self)
            next += 1
        }
        if panels.packedByteCount != nil {
            weights.masks = addresses[next].assumingMemoryBound(to: UInt64.self)
            weights.starts = addresses[next + 1].assumingMemoryBound(to: UInt32.self)
        }
        let expanded = AlignedBuffer(byteCount: lathe_qc8w_bytes(parameter.columns, parameter.depth))
        lathe_expand_select(weights.format, 0).pointee.run(
            &weights, 0, (parameter.columns + 15) / 16, expanded.elements(of: Int8.self))
        return withExtendedLifetime(buffers) { expanded.view.array() }
    }

    // MARK: Memory

    private func residentBytes(_ encoding: WeightEncoding, level: String) throws -> (resident: Int, stored: Int) {
        let engine = try Run(instructionSet: level).engine(try model(encoding).model())
        return (engine.residentWeightBytes, engine.storedWeightBytes)
    }

    /// Nothing is expanded for good where VPEXPANDB is at hand.
    @Test(
        .enabled(
            if: InstructionSet.available.last!.features & UInt32(LATHE_CPU_AVX512VBMI2) != 0,
            "no AVX-512-VBMI2 here"),
        arguments: WeightEncoding.everyQuantized)
    func nothingIsExpandedOnTheBestLevel(encoding: WeightEncoding) throws {
        let bytes = try residentBytes(encoding, level: InstructionSet.available.last!.name)
        #expect(bytes.resident <= bytes.stored + bytes.stored / 20, "\(bytes)")
    }

    @Test(
        .enabled(if: InstructionSet.available.contains { $0.name == "avx2" }, "no AVX2 here"),
        arguments: WeightEncoding.everyQuantized)
    func sparseWeightsAreExpandedForAVX2(encoding: WeightEncoding) throws {
        let bytes = try residentBytes(encoding, level: "avx2")
        var dense = encoding.quantized!
        dense.packedByteCount = nil
        let expected = try residentBytes(.quantized(dense), level: "avx2")
        #expect(bytes.resident == expected.resident)
        #expect((bytes.resident > bytes.stored) == (encoding.quantized!.packedByteCount != nil))
    }

    @Test func theProbeReadsWhatAStepReads() throws {
        for encoding in WeightEncoding.everyQuantized {
            let engine = try Run().engine(try model(encoding).model())
            let file = engine.model.file
            // Every matrix but the embedding's table, which is not the head's here.
            let read = file.graph.parameters.dropFirst().filter { $0.encoding != .rows }
            let names = read.flatMap(\.parts).map(\.name)
            let stored: Int = names.reduce(0) { $0 + file.container[$1]!.byteCount }
            #expect(engine.stepWeightBytes == stored || engine.hasExpandedWeights)
            #expect(stored < engine.storedWeightBytes)
        }
    }

    @Test func kernelsAreNamedByFormat() throws {
        let sparse = try Run().engine(try model(.quantized(.init(groupSize: 64))).model())
        let families = sparse.kernelNames.map(\.family)
        #expect(families.contains("linear_qd8_qc4w_decode") && families.contains("linear_qd8_qc4w_prefill"))
        #expect(families.contains("linear_qd8_qc8w_decode") && !families.contains("linear_qd8_qc8w_sparse_decode"))
    }
}
