import AMXEmulation
import CKernels

/// The int8 linear kernels under test: the table, the AMX kernel on emulated tiles, and panels expanded for another kernel.
enum LinearQD8Kernels {
    static let emulated = "amx, emulated"
    static var table: [lathe_linear_qd8_kernel] {
        var count = 0
        let kernels = lathe_linear_qd8_kernels(&count)
        return Array(UnsafeBufferPointer(start: kernels, count: count))
    }
    static var expansions: [lathe_expand_kernel] {
        var count = 0
        let kernels = lathe_expand_kernels(&count)
        return Array(UnsafeBufferPointer(start: kernels, count: count))
    }
    /// What every kernel of every format is held to, on the panels that the weights encode.
    static var definition: lathe_linear_qd8_kernel { table[0] }

    /// Those that this machine can run; LinearAvailabilityTests shows what is missing as skipped tests.
    static let subjects = LinearQD8Format.all.flatMap { format -> [LinearQD8Subject] in
        let features = lathe_cpu_features()
        let kernels = table.filter { $0.format == format.format && $0.features & ~features == 0 }
            .map { LinearQD8Subject(format: format, kernel: String(cString: $0.name)) }
        guard format != .qc8w else {
            let canEmulate = lathe_amx_emulation_features() & ~features == 0
            return kernels + (canEmulate ? [LinearQD8Subject(format: format, kernel: emulated)] : [])
        }
        let dense = String(cString: lathe_linear_qd8_choose(LATHE_QC8W, features, 512).kernel.pointee.name)
        return kernels
            + expansions.filter { $0.format == format.format && $0.features & ~features == 0 }
            .map { LinearQD8Subject(format: format, kernel: dense, expansion: String(cString: $0.name)) }
    }
    static let names = subjects.filter { $0.format == .qc8w }.map(\.kernel)
}

/// A format and what multiplies by it.
struct LinearQD8Subject: Sendable, CustomStringConvertible {
    var format: LinearQD8Format
    /// Of the format's entries of the table, or of int8's where panels are expanded.
    var kernel: String
    var expansion: String?

    var description: String {
        expansion.map { "\(format), expanded by \($0), \(kernel)" } ?? "\(format), \(kernel)"
    }

    var entry: lathe_linear_qd8_kernel {
        if kernel == LinearQD8Kernels.emulated {
            var kernel = LinearQD8Kernels.definition
            kernel.features = lathe_amx_emulation_features()
            kernel.run = lathe_linear_qd8_qc8w_amx_emulated
            return kernel
        }
        let stored = expansion == nil ? format.format : LATHE_QC8W
        return LinearQD8Kernels.table.first { $0.format == stored && String(cString: $0.name) == kernel }!
    }

    private var expansionEntry: lathe_expand_kernel? {
        expansion.flatMap { name in
            LinearQD8Kernels.expansions.first { $0.format == format.format && String(cString: $0.name) == name }
        }
    }

    /// As the engine runs it, with scratch against a guard page.
    func run(_ operation: lathe_linear_qd8, panels: Range<Int>, placement: GuardedBuffer.Placement) {
        var operation = operation
        guard let expansion = expansionEntry else { return entry.run(&operation, panels.lowerBound, panels.upperBound) }
        let scratchBytes = lathe_linear_qd8_scratch_bytes(format.format, operation.weights.pointee.depth)
        let scratch = GuardedBuffer(bytes: scratchBytes, alignment: 64, placement: placement)
        withUnsafePointer(to: entry) { entry in
            withUnsafePointer(to: expansion) { expansion in
                let choice = lathe_linear_qd8_choice(kernel: entry, expand: expansion)
                lathe_linear_qd8_run(
                    choice, &operation, panels.lowerBound, panels.upperBound, scratch.pointer(to: Int8.self))
            }
        }
    }
}
