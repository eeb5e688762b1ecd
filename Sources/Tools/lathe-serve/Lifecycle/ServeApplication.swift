import Hummingbird
import HummingbirdCore
import LatheFormat
import LatheService
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import ServiceLifecycle
import Synchronization

/// The server as one service: it listens, warms the backend up, and drains it before it stops listening.
struct ServeApplication: Service {
    struct Configuration: Sendable {
        var host = "127.0.0.1"
        var port = 0
        var maximumConnections = ServerMemory.standardConnections
        var grace = Duration.seconds(20)
        var keys: KeyRing?
        var maximumBody = ServerMemory.standardMaximumBody
        /// In a tenth of a second; connections that were refused beyond that are left alone for a while.
        var unpacedRefusals = RefusalPace.standardMaximum
        var headerTimeout = TimeAmount.seconds(10)
        var bodyTimeout = TimeAmount.seconds(30)
        var idleTimeout = TimeAmount.seconds(60)
        var writeTimeout = TimeAmount.seconds(20)
    }

    let backend: any Backend
    let configuration: Configuration
    let readiness = Readiness()
    let census: Census
    let metrics: PrometheusRegistry
    let group: any EventLoopGroup
    let logger: Logger
    /// Told the port that was bound.
    let onListening: @Sendable (Int) -> Void

    init(
        backend: any Backend, configuration: Configuration, metrics: PrometheusRegistry, group: any EventLoopGroup,
        logger: Logger, onListening: @escaping @Sendable (Int) -> Void = { _ in }
    ) {
        self.backend = backend
        self.configuration = configuration
        self.metrics = metrics
        self.group = group
        self.logger = logger
        self.onListening = onListening
        census = Census(maximum: configuration.maximumConnections)
    }

    /// Until a graceful shutdown: the backend drains while health is still answered, then connections end.
    func run() async throws {
        let services = ServiceGroup(
            configuration: .init(
                // They stop in the opposite order.
                services: [
                    .init(service: application, serviceName: "listener"),
                    .init(service: ModelLifecycle(application: self), serviceName: "model"),
                ],
                logger: quiet))
        try await services.run()
    }

    /// Without the lines of libraries below warnings.
    private var quiet: Logger {
        var logger = logger
        logger.logLevel = max(logger.logLevel, .warning)
        return logger
    }

    private var application: some Service {
        let observer = RequestObserver(logger: logger, metrics: metrics)
        let responder = Responder(
            backend: backend, readiness: readiness, keys: configuration.keys, metrics: metrics, census: census,
            observer: observer, maximumBody: configuration.maximumBody, openAPI: backend.openAPI)
        let rules = ConnectionRules(
            maximumBody: configuration.maximumBody,
            largeBodies: LargeBodies(maximum: ServerMemory.wholeBodies * configuration.maximumBody),
            refusalPace: RefusalPace(maximum: configuration.unpacedRefusals),
            headerTimeout: configuration.headerTimeout, bodyTimeout: configuration.bodyTimeout,
            idleTimeout: configuration.idleTimeout, writeTimeout: configuration.writeTimeout,
            isAlwaysAnswered: { Route(rawValue: String($0))?.isForWatching == true },
            isFull: { [backend] in Route(rawValue: String($0))?.generates == true && backend.isFull },
            refusal: { refusal in
                ServiceDocument(
                    ServiceError(
                        status: Int(refusal.status.code),
                        type: refusal.type, message: refusal.message, code: refusal.code,
                        retryAfterSeconds: refusal.retryAfterSeconds)
                ).body
            },
            ended: { observer.ended($0, $1) })
        let census = census
        return Application(
            responder: responder,
            server: HTTPServerBuilder { ServeChannel(responder: $0, rules: rules, census: census) },
            configuration: .init(
                address: .hostname(configuration.host, port: configuration.port), serverName: "lathe", backlog: 1024,
                // Beyond the maximum connections are answered 503; beyond twice as many they wait to be accepted.
                availableConnectionsDelegate: .maximum(configuration.maximumConnections * 2, logger: quiet)),
            onServerRunning: { [self] channel in
                try? await channel.eventLoop.submit { [logger] in
                    try channel.pipeline.syncOperations.addHandler(AcceptPause(logger: logger), position: .first)
                }.get()
                let port = channel.localAddress?.port ?? configuration.port
                logger.notice(
                    "listening", metadata: ["host": "\(configuration.host)", "port": .stringConvertible(port)])
                onListening(port)
            },
            eventLoopGroupProvider: .shared(group), logger: quiet)
    }
}

/// Warms up, then waits for the end.
private struct ModelLifecycle: Service {
    let application: ServeApplication

    func run() async throws {
        let backend = application.backend
        let begin = ContinuousClock.now
        do {
            try await cancelWhenGracefulShutdown { try await backend.warmUp() }
        } catch  where Task.isShuttingDownGracefully {
            // Told to end before it was ready: not a failure.
        }
        if !Task.isShuttingDownGracefully {
            let seconds = (begin.duration(to: .now).seconds * 1e3).rounded() / 1e3
            application.logger.notice("ready", metadata: ["warm_up_seconds": .stringConvertible(seconds)])
        }
        // Returns when told to end, throws when cancelled: either way there is nothing to wait for.
        try? await gracefulShutdown()
        application.readiness.beginDraining()
        application.logger.notice(
            "draining", metadata: ["grace_seconds": .stringConvertible(application.configuration.grace.seconds)])
        await backend.drain(within: application.configuration.grace)
    }
}
