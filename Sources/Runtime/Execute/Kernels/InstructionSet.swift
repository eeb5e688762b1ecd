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
            return unsafe InstructionSet(lathe_isa_best().pointee)
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
