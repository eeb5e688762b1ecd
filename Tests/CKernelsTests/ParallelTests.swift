import CKernels
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The parallel-for. Its callers must be one thread at a time, hence the serial suite.
@Suite(.serialized) struct ParallelTests {
    private struct Region {
        var calls: UnsafeMutablePointer<Int>  // by thread index
        var threads: UnsafeMutablePointer<Int>
    }

    @Test(arguments: [1, 2, 4])
    func everyThreadRunsOnce(threads: Int) {
        let calls = UnsafeMutablePointer<Int>.allocate(capacity: 64)
        let seen = UnsafeMutablePointer<Int>.allocate(capacity: 64)
        defer {
            calls.deallocate()
            seen.deallocate()
        }
        for _ in 0..<50 {
            calls.initialize(repeating: 0, count: 64)
            seen.initialize(repeating: 0, count: 64)
            var region = Region(calls: calls, threads: seen)
            lathe_parallel(
                threads,
                { context, thread, threads in
                    let region = context!.assumingMemoryBound(to: Region.self).pointee
                    region.calls[thread] += 1
                    region.threads[thread] = threads
                }, &region)
            let team = seen[0]
            #expect(team >= 1 && team <= threads)
            for thread in 0..<64 {
                #expect(calls[thread] == (thread < team ? 1 : 0))
                #expect(seen[thread] == (thread < team ? team : 0))
            }
        }
    }

    /// What float arithmetic does on this thread now: `rounded` is 1 where the least excess is rounded off, and `tiny`
    /// is not zero where denormals are kept.
    private struct Arithmetic {
        var one: Float = 1
        var excess: Float = 0x1p-30
        var least = Float.leastNormalMagnitude
        var half: Float = 0.5
    }

    private struct Observed {
        var inputs = Arithmetic()
        var rounded: UnsafeMutablePointer<Float>
        var tiny: UnsafeMutablePointer<Float>
    }

    #if os(Linux) && arch(x86_64)
        /// A caller that rounds upward and flushes denormals, as a library built with -ffast-math leaves it, gets canonical
        /// arithmetic within and its own state back after.
        @Test(arguments: [1, 2, 4])
        func floatStateIsCanonicalWithinAndRestoredAfter(threads: Int) {
            let rounded = UnsafeMutablePointer<Float>.allocate(capacity: 64)
            let tiny = UnsafeMutablePointer<Float>.allocate(capacity: 64)
            rounded.initialize(repeating: 1, count: 64)
            tiny.initialize(repeating: 1, count: 64)
            var saved = fenv_t()
            fegetenv(&saved)
            var hostile = saved
            let flushAndUpward: UInt32 = 0x8040 | 0x4000
            hostile.__mxcsr = (saved.__mxcsr & ~0x6000) | flushAndUpward
            var observed = Observed(rounded: rounded, tiny: tiny)
            fesetenv(&hostile)
            lathe_parallel(
                threads,
                { context, thread, _ in
                    let observed = context!.assumingMemoryBound(to: Observed.self).pointee
                    observed.rounded[thread] = observed.inputs.one + observed.inputs.excess
                    observed.tiny[thread] = observed.inputs.least * observed.inputs.half
                }, &observed)
            var after = fenv_t()
            fegetenv(&after)
            fesetenv(&saved)
            #expect(after.__mxcsr & 0xFFC0 == hostile.__mxcsr & 0xFFC0)
            for thread in 0..<64 {
                #expect(rounded[thread] == 1)
                #expect(tiny[thread] > 0)
            }
            rounded.deallocate()
            tiny.deallocate()
        }
    #endif
}
