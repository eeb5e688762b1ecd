import CKernels
public import LatheFormat

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The instruction-set level that kernels are chosen by. Results are the same bits on each.
@safe
public struct InstructionSet: Sendable, Hashable, CustomStringConvertible {
    /// `scalar`, `avx2`, `avxvnni`, `avx512vnni`, `amx`, `neon`, `neondot` or `neoni8mm`.
    public let name: String
    /// What kernels may use.
    package let features: UInt32

    public var description: String { name }

    @unsafe
    private init(_ level: lathe_isa_level) {
        name = unsafe String(cString: level.name)
        // A level is a ceiling: of what it allows, what the machine has.
        features = unsafe level.allowed & lathe_cpu_features()
    }

    /// The levels that this machine has, ascending.
    public static let available: [InstructionSet] = {
        var count = 0
        let levels = unsafe lathe_isa_levels(&count)
        return unsafe UnsafeBufferPointer(start: levels, count: count)
            .filter { unsafe $0.required & ~lathe_cpu_features() == 0 }
            .map { unsafe InstructionSet($0) }
    }()

    /// The machine's best level, or the one that `LATHE_ISA` (or `name`) lowers it to.
    ///
    /// - Throws: `unsupported` where the name is unknown or beyond this machine; the message lists those available.
    public static func selected(_ name: String? = nil) throws(LatheError) -> InstructionSet {
        guard let name = name ?? Self.environmentName() else {
            return best
        }
        guard let level = available.first(where: { $0.name == name }) else {
            throw LatheError(
                .unsupported,
                "LATHE_ISA=\(name): this machine has no such level; it has \(available.map(\.name).joined(separator: ", "))."
            )
        }
        return level
    }

    private static func environmentName() -> String? {
        guard let value = unsafe getenv("LATHE_ISA"), unsafe value.pointee != 0 else { return nil }
        return unsafe String(cString: value)
    }

    /// The machine's best level.
    static let best = unsafe InstructionSet(lathe_isa_best().pointee)

    /// The kernels that run at this level, by family; the linear layers' for one row and for many, of int8 and of
    /// `formats` (raw values of `lathe_weight_format`).
    package func kernelNames(formats: Set<UInt32>) -> [(family: String, name: String)] {
        func name(_ pointer: UnsafePointer<CChar>) -> String { unsafe String(cString: pointer) }
        func linear(_ format: lathe_weight_format, rows: Int) -> String {
            let choice = unsafe lathe_linear_qd8_choose(format, features, rows)
            let kernel = unsafe name(choice.kernel.pointee.name)
            guard let expand = unsafe choice.expand else { return kernel }
            return unsafe "\(name(expand.pointee.name)) expansion, \(kernel)"
        }
        let linearFormats = [
            (LATHE_QC8W, "qc8w"), (LATHE_QC4W, "qc4w"), (LATHE_QC8W_SPARSE, "qc8w_sparse"),
            (LATHE_QC4W_SPARSE, "qc4w_sparse"),
        ].filter { $0.0 == LATHE_QC8W || formats.contains(UInt32($0.0.rawValue)) }
        var names = linearFormats.flatMap { format, family in
            [
                (family: "linear_qd8_\(family)_decode", name: linear(format, rows: 1)),
                (family: "linear_qd8_\(family)_prefill", name: linear(format, rows: 512)),
            ]
        }
        unsafe names += [
            ("linear_f32", name(lathe_linear_f32_select(features).pointee.name)),
            ("quantize", name(lathe_quantize_select(features).pointee.name)),
            ("vector", name(lathe_vector_select(features).pointee.name)),
        ]
        return names
    }
}

/// Memory for one choice of a token at a time, and the kernels that make it: 20 bytes for each token of the vocabulary. What
/// no choice has needed yet is address space alone where the vocabulary is large.
@safe
struct SamplingBuffers {
    private let vector: UnsafePointer<lathe_vector_kernel>
    private let memory: AlignedBuffer
    private let vocabularySize: Int

    /// What they take for a vocabulary, for whoever plans memory.
    static func byteCount(vocabularySize: Int) -> Int { lathe_choice_scratch_bytes(vocabularySize) }

    init(vocabularySize: Int, instructionSet: InstructionSet = .best) {
        unsafe vector = lathe_vector_select(instructionSet.features)
        memory = AlignedBuffer(byteCount: Self.byteCount(vocabularySize: vocabularySize))
        self.vocabularySize = vocabularySize
    }

    private var scratch: UnsafeMutablePointer<UInt8> { unsafe memory.elements(of: UInt8.self) }
    private var row: UnsafeMutablePointer<Float> { unsafe lathe_choice_row(scratch, vocabularySize) }

    /// Draws a token by the temperature (above 0), top-k, top-p and min-p of `options`.
    ///
    /// - Parameters:
    ///   - likeliest: the index of the greatest logit.
    ///   - random: in [0, 1).
    mutating func choose(
        _ logits: Span<Float>, likeliest: Int, _ options: GenerationOptions, random: Float
    ) -> Int32 {
        precondition(logits.count == vocabularySize)
        return unsafe logits.withUnsafeBufferPointer {
            unsafe choose($0.baseAddress!, likeliest: likeliest, options, random: random)
        }
    }

    private func choose(
        _ logits: UnsafePointer<Float>, likeliest: Int, _ options: GenerationOptions, random: Float
    ) -> Int32 {
        var choice = unsafe lathe_choice(
            logits: logits, count: vocabularySize, best: logits[likeliest], temperature: options.temperature,
            top_k: options.topK ?? .max, top_p: options.topP ?? 1, min_p: options.minP ?? 0, random: random)
        return unsafe Int32(lathe_choose(vector, &choice, scratch))
    }

    // MARK: A copy of logits, to be changed before the choice

    mutating func copy(_ logits: Span<Float>) {
        precondition(logits.count == vocabularySize)
        unsafe logits.withUnsafeBufferPointer { unsafe row.update(from: $0.baseAddress!, count: vocabularySize) }
    }

    mutating func withCopy(_ body: (inout MutableSpan<Float>) -> Void) {
        var span = unsafe MutableSpan(_unsafeStart: row, count: vocabularySize)
        body(&span)
    }

    /// The index of the greatest logit of the copy, of equals the first; all are finite.
    func likeliestOfCopy() -> Int { unsafe vector.pointee.greatest(row, vocabularySize) }

    /// - Parameter likeliest: of the copy.
    mutating func chooseFromCopy(likeliest: Int, _ options: GenerationOptions, random: Float) -> Int32 {
        unsafe choose(row, likeliest: likeliest, options, random: random)
    }
}
