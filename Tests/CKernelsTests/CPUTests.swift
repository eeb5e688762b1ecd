import CKernels
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// The levels and what the tables choose for them.
@Suite struct CPUTests {
    static var levels: [lathe_isa_level] {
        var count = 0
        let levels = lathe_isa_levels(&count)!
        return Array(UnsafeBufferPointer(start: levels, count: count))
    }
    static let names = levels.map { String(cString: $0.name) }

    private func isAvailable(_ level: lathe_isa_level) -> Bool { level.required & ~lathe_cpu_features() == 0 }

    @Test func namesAreTheDocumentedOnes() {
        #expect(Self.names == ["scalar", "avx2", "avxvnni", "avx512vnni", "amx", "neon", "neondot", "neoni8mm"])
        #expect(lathe_isa_named("sse9") == nil)
        #expect(lathe_isa_named("") == nil)
    }

    @Test(arguments: names)
    func lookup(name: String) {
        let level = lathe_isa_named(name)!.pointee
        #expect(String(cString: level.name) == name)
        #expect(level.required & ~level.allowed == 0, "a level must allow what it requires")
    }

    @Test func bestIsTheLastAvailable() {
        let best = lathe_isa_best()!.pointee
        let available = Self.levels.filter(isAvailable).map { String(cString: $0.name) }
        #expect(available.first == "scalar")
        #expect(available.last == String(cString: best.name))
    }

    @Test func featuresAreStable() {
        #expect(lathe_cpu_features() == lathe_cpu_features())
        #expect(lathe_cpu_features() >> 9 == 0, "only the documented bits")
    }

    #if arch(x86_64) && os(Linux)
        /// The operating system lists the same features.
        @Test func featuresAreThoseOfTheOperatingSystem() throws {
            let file = try #require(fopen("/proc/cpuinfo", "r"))
            defer { fclose(file) }
            var flags: Set<String> = []
            var line = [CChar](repeating: 0, count: 16384)
            while flags.isEmpty, fgets(&line, Int32(line.count), file) != nil {
                let text = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
                if text.hasPrefix("flags") { flags = Set(text.split { $0 == " " || $0 == "\n" }.map(String.init)) }
            }
            let features = lathe_cpu_features()
            func expect(_ feature: Int, _ needed: Set<String>) {
                #expect((features & UInt32(feature) != 0) == needed.isSubset(of: flags), "\(needed)")
            }
            let avx2: Set = ["avx2", "fma", "f16c"]
            let avx512 = avx2.union(["avx512f", "avx512bw", "avx512dq", "avx512vl"])
            expect(Int(LATHE_CPU_AVX2), avx2)
            expect(Int(LATHE_CPU_AVXVNNI), avx2.union(["avx_vnni"]))
            expect(Int(LATHE_CPU_AVX512), avx512)
            expect(Int(LATHE_CPU_AVX512VNNI), avx512.union(["avx512_vnni"]))
            expect(Int(LATHE_CPU_AVX512VBMI2), avx512.union(["avx512_vbmi2", "gfni"]))
            expect(Int(LATHE_CPU_AMX_INT8), avx512.union(["amx_tile", "amx_int8"]))
        }
    #endif

    @Test(arguments: names)
    func tablesChooseWithinTheLevel(name: String) {
        let level = lathe_isa_named(name)!.pointee
        let quantize = lathe_quantize_select(level.allowed)!.pointee
        let vector = lathe_vector_select(level.allowed)!.pointee
        #expect(quantize.features & ~level.allowed == 0)
        #expect(vector.features & ~level.allowed == 0)
        if name == "scalar" {
            #expect(String(cString: quantize.name) == "scalar" && quantize.features == 0)
            #expect(String(cString: vector.name) == "scalar" && vector.features == 0)
        }
        #if arch(x86_64)
            let expected =
                name == "scalar" || name.hasPrefix("neon")
                ? "scalar" : ["avx2": "avx2", "avxvnni": "avx2"][name] ?? "avx512"
        #else
            let expected = name.hasPrefix("neon") ? "neon" : "scalar"
        #endif
        #expect(String(cString: quantize.name) == expected)
        #expect(String(cString: vector.name) == expected)
    }
}
