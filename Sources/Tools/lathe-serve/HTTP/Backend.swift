import LatheService

/// What answers the calls: the service, or what a test puts in its place.
protocol Backend: Sendable {
    var isReady: Bool { get }
    /// Whether what comes now would be refused, because too many wait.
    var isFull: Bool { get }
    func warmUp() async throws
    /// Refuses new calls, waits for running ones as long as `grace`, then cancels them.
    func drain(within grace: Duration) async
    /// Ends soon after its task is cancelled.
    func reply(to call: ServiceCall) async -> ServiceReply
    func models() -> ServiceDocument
    func memory() -> ServiceDocument
    var openAPI: [UInt8] { get }
    /// Sets what is asked for rather than counted, before metrics are read.
    func refreshMetrics()
}

extension TextService: Backend {}
