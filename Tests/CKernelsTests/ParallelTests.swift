import CKernels
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The parallel-for: each calling thread has a team of its own.
@Suite struct ParallelTests {
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

    /// What is done to the threads themselves: each share has its own, the same each time, whoever is late.
    @Test func eachThreadHasItsOwnShare() {
        let handles = UnsafeMutablePointer<UInt>.allocate(capacity: 8)
        defer { handles.deallocate() }
        var first: [UInt] = []
        for round in 0..<300 {
            handles.initialize(repeating: 0, count: 8)
            lathe_on_each_thread(
                4,
                { context, thread, _ in
                    let handles = context!.assumingMemoryBound(to: UInt.self)
                    #if os(Linux)
                        handles[thread] = UInt(pthread_self())
                    #else
                        handles[thread] = UInt(bitPattern: pthread_self())
                    #endif
                }, handles)
            let found = (0..<8).map { handles[$0] }.filter { $0 != 0 }
            if round == 0 { first = found }
            #expect(found == first && Set(found).count == found.count)
            // Regions whose shares may move lie between, and pauses in which the workers fall asleep.
            lathe_parallel(3, { _, _, _ in }, nil)
            if round % 100 == 99 { usleep(3000) }
        }
        #expect(first.count > 1)
    }

    /// Many callers at once, each with regions of changing sizes, with and without a pause in which the workers fall asleep.
    @Test func callersHaveTeamsOfTheirOwn() async {
        await withTaskGroup(of: Int.self) { group in
            for caller in 0..<4 {
                group.addTask {
                    await withCheckedContinuation { continuation in
                        // A thread that ends, so that its team is disbanded.
                        startThread { continuation.resume(returning: Self.sumOfRegions(caller: caller)) }
                    }
                }
            }
            for await wrong in group { #expect(wrong == 0) }
        }
    }

    /// How many regions did not run every share exactly once.
    private static func sumOfRegions(caller: Int) -> Int {
        let shares = UnsafeMutablePointer<Int>.allocate(capacity: 8)
        let teams = UnsafeMutablePointer<Int>.allocate(capacity: 8)
        defer {
            shares.deallocate()
            teams.deallocate()
        }
        var wrong = 0
        for round in 0..<2000 {
            shares.initialize(repeating: 0, count: 8)
            teams.initialize(repeating: 0, count: 8)
            let threads = 1 + (round + caller) % 5
            var region = Region(calls: shares, threads: teams)
            lathe_parallel(
                threads,
                { context, thread, threads in
                    let region = context!.assumingMemoryBound(to: Region.self).pointee
                    region.calls[thread] += 1
                    region.threads[thread] = threads
                }, &region)
            for thread in 0..<8 where shares[thread] != (thread < teams[0] ? 1 : 0) { wrong += 1 }
            if teams[0] != threads { wrong += 1 }
            // Longer than the workers spin.
            if round % 500 == 499 { usleep(3000) }
        }
        return wrong
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

/// Runs `body` on a thread of its own, which then ends.
private func startThread(_ body: @escaping @Sendable () -> Void) {
    final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var handle = pthread_t()
    let result = pthread_create(
        &handle, nil,
        { context in
            Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
            return nil
        }, Unmanaged.passRetained(Box(body)).toOpaque())
    precondition(result == 0)
    pthread_detach(handle)
}
