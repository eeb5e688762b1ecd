import LatheCompiler
import LatheFormat
import Testing

/// Tensors that are missing, superfluous, of another shape or type, or hold what is no number.
@Suite struct CheckpointTensorFaultTests {
    @Test(arguments: ["transformer.wte.weight", "transformer.h.1.attn.c_attn.bias", "transformer.ln_f.bias"])
    func missingTensorsAreNamed(name: String) throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.changeTensors { $0.removeAll { $0.name == name } }
        let error = try checkpoint.failure()
        #expect(error.code == .missing && error.names(checkpoint.path, name), "\(error.message)")
    }

    @Test(arguments: ["transformer.h.2.ln_1.weight", "transformer.extra", "score.weight", "h.0.attn.bias"])
    func superfluousTensorsAreNamed(name: String) throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.changeTensors { $0.append(.init(name: name, dtype: .f32, shape: [1], bytes: [0, 0, 0, 0])) }
        let error = try checkpoint.failure()
        #expect(error.code == .unsupported && error.names(checkpoint.path, name), "\(error.message)")
    }

    @Test(arguments: [
        ("transformer.wte.weight", [32, 101]), ("transformer.h.0.attn.c_attn.weight", [96, 32]),
        ("transformer.h.0.attn.c_attn.weight", [32 * 96]), ("transformer.ln_f.bias", [1, 32]),
        ("transformer.ln_f.bias", [32, 1, 1]),
    ])
    func otherShapesAreNamed(name: String, shape: [Int]) throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.changeTensor(name) { $0.shape = shape }
        let error = try checkpoint.failure()
        #expect(error.code == .corrupt && error.names("model.safetensors", name, "\(shape)"), "\(error.message)")
    }

    /// The number, and where it stands.
    static let notFinite: [(Float, Int)] = [(.nan, 0), (.infinity, 17), (-.infinity, 31), (-.nan, 5)]

    @Test(
        arguments: [
            "transformer.wte.weight", "transformer.wpe.weight", "transformer.h.1.mlp.c_proj.weight",
            "transformer.h.0.ln_2.bias",
        ], notFinite)
    func whatIsNotFiniteIsNamed(name: String, value: (Float, Int)) throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.changeTensor(name) { tensor in
            withUnsafeBytes(of: value.0) { tensor.bytes.replaceSubrange(4 * value.1..<4 * value.1 + 4, with: $0) }
        }
        for weights in [WeightFormats.int8, .float32] {
            let error = try checkpoint.failure(weights)
            #expect(error.code == .notFinite, "\(error.message)")
            #expect(error.names("model.safetensors", name, "element \(value.1);"), "\(error.message)")
        }
    }

    /// Fills every other element of a matrix.
    private func checkpoint(filledWith value: Float) throws -> BentCheckpoint {
        let checkpoint = try BentCheckpoint()
        try checkpoint.changeTensor("transformer.h.0.mlp.c_fc.weight") { tensor in
            withUnsafeBytes(of: value) { bytes in
                for start in stride(from: 0, to: tensor.bytes.count, by: 8) {
                    tensor.bytes.replaceSubrange(start..<start + 4, with: bytes)
                }
            }
        }
        return checkpoint
    }

    /// Weights at the ends of float32 are numbers all the same.
    @Test(arguments: [1e30, 1e-30, .leastNonzeroMagnitude, 0] as [Float], WeightFormats.allCases)
    func extremeWeightsAreConverted(value: Float, weights: WeightFormats) throws {
        let (report, _) = try checkpoint(filledWith: value).convert(weights)
        for tensor in report.tensors { #expect((0...1).contains(tensor.relativeError), "\(tensor)") }
    }

    /// 127 · scale rounds to infinity, which the engine would compute with.
    @Test(arguments: WeightFormats.allCases)
    func aScaleThatLeadsBeyondFloat32IsRefused(weights: WeightFormats) throws {
        let checkpoint = try checkpoint(filledWith: .greatestFiniteMagnitude)
        if weights == .float32 {
            _ = try checkpoint.convert(weights)
        } else {
            let error = try checkpoint.failure(weights)
            #expect(
                error.code == .notFinite && error.names("h.0.mlp.c_fc.weight", "output 0", "f32"), "\(error.message)")
        }
    }

    @Test(arguments: [DType.f64, .f8E4M3])
    func typesThatAreNotReadAreNamed(dtype: DType) throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.changeTensor("transformer.ln_f.bias") { tensor in
            tensor.dtype = dtype
            tensor.bytes = [UInt8](repeating: 0, count: 32 * dtype.bitWidth / 8)
        }
        let error = try checkpoint.failure()
        #expect(
            error.code == .unsupported && error.names("model.safetensors", "transformer.ln_f.bias", dtype.rawValue),
            "\(error.message)")
    }

    @Test func fileHeadersAreChecked() throws {
        let checkpoint = try BentCheckpoint()
        try checkpoint.write("short", to: "model.safetensors")
        #expect(try checkpoint.failure().names("model.safetensors"))
        try checkpoint.write("", to: "model.safetensors")
        #expect(try checkpoint.failure().names("model.safetensors"))
        try checkpoint.write("\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}{}", to: "model.safetensors")
        #expect(try checkpoint.failure().names("model.safetensors"))
    }
}
