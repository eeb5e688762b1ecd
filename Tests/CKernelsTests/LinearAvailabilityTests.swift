import CKernels
import Testing

/// What the other suites of linear kernels do not test on this machine, as visible skips.
@Suite struct LinearAvailabilityTests {
    private static let features = lathe_cpu_features()
    /// The kernel of that name is tested in every dense format.
    private func isTested(_ name: String) -> Bool {
        LinearQD8Format.all.filter { !$0.isSparse }.allSatisfy { format in
            LinearQD8Kernels.subjects.contains { $0.format == format && $0.kernel == name && $0.expansion == nil }
        }
    }
    private static func has(_ needed: Int...) -> Bool {
        needed.allSatisfy { features & UInt32($0) != 0 }
    }

    @Test(.enabled(if: has(LATHE_CPU_AVX2), "no AVX2 here: its linear kernels are not tested"))
    func avx2() {
        #expect(isTested("avx2"))
        #expect(LinearF32Kernels.names.contains("avx2"))
    }

    @Test(
        .enabled(
            if: has(LATHE_CPU_AVX2, LATHE_CPU_AVXVNNI), "no AVX-VNNI here: its int8 and int4 kernels are not tested"))
    func avxvnni() { #expect(isTested("avxvnni")) }

    @Test(.enabled(if: has(LATHE_CPU_AVX2, LATHE_CPU_AVX512), "no AVX-512 here: its float32 kernel is not tested"))
    func avx512() { #expect(LinearF32Kernels.names.contains("avx512")) }

    @Test(
        .enabled(
            if: has(LATHE_CPU_AVX2, LATHE_CPU_AVX512, LATHE_CPU_AVX512VNNI),
            "no AVX-512-VNNI here: its int8 and int4 kernels are not tested"))
    func avx512vnni() { #expect(isTested("avx512vnni")) }

    @Test(
        .enabled(
            if: has(LATHE_CPU_AVX2, LATHE_CPU_AVX512, LATHE_CPU_AVX512VNNI, LATHE_CPU_AVX512VBMI2),
            "no AVX-512-VBMI2 here: its kernels of sparse weights are not tested"))
    func avx512vbmi2() {
        let formats = LinearQD8Kernels.subjects.filter { $0.kernel == "avx512vbmi2" }.map(\.format)
        #expect(Set(formats) == Set(LinearQD8Format.all.filter(\.isSparse)))
    }

    @Test(
        .enabled(
            if: has(LATHE_CPU_AVX2, LATHE_CPU_AVX512, LATHE_CPU_AVX512VNNI, LATHE_CPU_AMX_INT8),
            "no AMX here: its int8 kernel is tested on emulated tiles only"))
    func amx() { #expect(LinearQD8Kernels.names.contains("amx")) }

    @Test(.enabled(if: has(LATHE_CPU_AVX2, LATHE_CPU_AVX512), "no AVX-512 here: AMX is not tested on emulated tiles"))
    func emulatedAMX() { #expect(LinearQD8Kernels.names.contains(LinearQD8Kernels.emulated)) }

    // `make test-arm` holds these to the same digests under emulation.
    @Test(.enabled(if: has(LATHE_CPU_NEON), "no NEON here: its linear kernels are not tested"))
    func neon() {
        #expect(isTested("neon"))
        #expect(LinearF32Kernels.names.contains("neon"))
    }

    @Test(
        .enabled(
            if: has(LATHE_CPU_NEON, LATHE_CPU_NEON_DOT),
            "no NEON dot products here: their int8 and int4 kernels are not tested"))
    func neondot() { #expect(isTested("neondot")) }

    @Test(
        .enabled(
            if: has(LATHE_CPU_NEON, LATHE_CPU_NEON_DOT, LATHE_CPU_NEON_I8MM),
            "no NEON matrix products here: their int8 kernel is not tested"))
    func neoni8mm() { #expect(LinearQD8Kernels.names.contains("neoni8mm")) }
}
