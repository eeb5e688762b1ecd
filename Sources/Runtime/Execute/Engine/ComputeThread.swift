import LatheFormat

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A thread of its own for computation, which never runs on Swift's cooperative pool.
@safe
final class ComputeThread: Sendable {
    #if canImport(Darwin)
        // A pointer there: nothing but the thread's name is done with it.
        private nonisolated(unsafe) let handle: pthread_t
    #else
        private let handle: pthread_t
    #endif

    /// Starts `body`; a stack of 1 MB, since kernels keep their scratch elsewhere.
    init(_ body: @escaping @Sendable () -> Void) throws(LatheError) {
        var attributes = pthread_attr_t()
        unsafe pthread_attr_init(&attributes)
        unsafe pthread_attr_setstacksize(&attributes, 1 << 20)
        defer { unsafe pthread_attr_destroy(&attributes) }
        #if canImport(Darwin)
            var handle: pthread_t?
        #else
            var handle = pthread_t()
        #endif
        let box = unsafe Unmanaged.passRetained(Body(body))
        let result = unsafe pthread_create(
            &handle, &attributes,
            { context in
                let body: UnsafeMutableRawPointer? = unsafe context  // which may be NULL only for Glibc
                unsafe Unmanaged<Body>.fromOpaque(body!).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        guard result == 0 else {
            unsafe box.release()
            throw LatheError(.io, "The compute thread could not be started (error \(result)).")
        }
        #if canImport(Darwin)
            self.handle = unsafe handle!
        #else
            self.handle = handle
        #endif
    }

    func join() { _ = pthread_join(handle, nil) }
    func detach() { pthread_detach(handle) }
    var isCurrent: Bool { pthread_equal(pthread_self(), handle) != 0 }

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}
