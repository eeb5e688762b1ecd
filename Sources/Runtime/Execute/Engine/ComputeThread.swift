import LatheFormat

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A thread of its own for computation, which never runs on Swift's cooperative pool.
@safe
final class ComputeThread: Sendable {
    private let handle: pthread_t

    /// Starts `body`; a stack of 1 MB, since kernels keep their scratch elsewhere.
    init(_ body: @escaping @Sendable () -> Void) throws(LatheError) {
        var attributes = pthread_attr_t()
        unsafe pthread_attr_init(&attributes)
        unsafe pthread_attr_setstacksize(&attributes, 1 << 20)
        defer { unsafe pthread_attr_destroy(&attributes) }
        var handle = pthread_t()
        let box = unsafe Unmanaged.passRetained(Body(body))
        let result = unsafe pthread_create(
            &handle, &attributes,
            { context in
                unsafe Unmanaged<Body>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        guard result == 0 else {
            unsafe box.release()
            throw LatheError(.io, "The compute thread could not be started (error \(result)).")
        }
        self.handle = handle
    }

    func join() { _ = pthread_join(handle, nil) }
    func detach() { pthread_detach(handle) }
    var isCurrent: Bool { pthread_equal(pthread_self(), handle) != 0 }

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}
