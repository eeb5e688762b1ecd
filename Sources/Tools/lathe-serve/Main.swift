import CoreMetrics
import FoundationEssentials
import LatheFormat
import LatheService
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import UnixSignals

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Serves a model over HTTP: settings in, one process, until a signal.
@main
enum Main {
    static func main() async {
        do {
            try ProcessArguments.requireReadable()
            let settings = try Settings(
                arguments: Array(CommandLine.arguments.dropFirst()),
                environment: ProcessInfo.processInfo.environment, readFile: readText)
            switch settings.request {
            case .help: print(Settings.help, terminator: "")
            case .version: print(latheVersion)
            case .printConfiguration: print(settings.report, terminator: "")
            case .settingsTable: print(Settings.markdownTable, terminator: "")
            case .serve: try await serve(settings)
            }
        } catch let error as LatheError {
            complain(error.message)
            // As `lathe` ends: 2 where a budget says no, 64 where the call was wrong.
            exit(error.code == .budget ? 2 : error.code == .invalidRequest || error.code == .missing ? 64 : 1)
        } catch {
            complain("\(error)")
            exit(1)
        }
    }

    private static func serve(_ settings: Settings) async throws {
        let level = Logger.Level(rawValue: settings.text("log.level") ?? "") ?? .info
        LoggingSystem.bootstrap { label in JSONLines(label: label, level: level) }
        let metrics = PrometheusRegistry(
            descriptions: MetricDescriptions.table.merging(ServiceMetrics.descriptions) { own, _ in own })
        MetricsSystem.bootstrap(metrics)
        let logger = Logger(label: "lathe-serve")

        var configuration = try settings.application()
        warnOfOpenHost(configuration)
        configuration.maximumConnections = connectionsWithinDescriptors(configuration.maximumConnections, logger)
        let service = try settings.textService(metrics: ServiceMetrics(factory: metrics))
        let group = MultiThreadedEventLoopGroup(numberOfThreads: settings.count("server.event-loop-threads") ?? 1)
        let isOpen = configuration.isOpenWithoutKeys
        let application = ServeApplication(
            backend: service, configuration: configuration, metrics: metrics, group: group, logger: logger
        ) { [configuration] _ in
            if isOpen { warnOfOpenHost(configuration) }
        }
        try await run(application, logger)
        try await group.shutdownGracefully()
        logger.notice("ended")
    }

    /// Until the first signal and what it begins have ended; the second signal ends the process at once.
    private static func run(_ application: ServeApplication, _ logger: Logger) async throws {
        var configuration = ServiceGroupConfiguration(
            services: [.init(service: application, serviceName: "server")], logger: logger)
        configuration.maximumGracefulShutdownDuration = application.configuration.grace + .seconds(10)
        let services = ServiceGroup(configuration: configuration)
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        let watching = Task {
            var isEnding = false
            for await signal in signals {
                logger.notice("signal", metadata: ["signal": "\(signal)"])
                if isEnding { _exit(signal == .sigint ? 130 : 143) }
                isEnding = true
                application.readiness.beginDraining()
                await services.triggerGracefulShutdown()
            }
        }
        defer { watching.cancel() }
        try await services.run()
    }

    private static func readText(_ path: String) throws(LatheError) -> String {
        let bytes = try InputFile.open(path: path).readAll(maximumByteCount: 1 << 20).array()
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw LatheError(.corrupt, "\(quoted(path)) is not UTF-8; save it as UTF-8.")
        }
        return text
    }
}
