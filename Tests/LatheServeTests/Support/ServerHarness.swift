import Logging
import NIOPosix
import ServiceLifecycle
import Synchronization

@testable import LatheServe

/// A server on a free port of this machine, inside this process.
struct RunningServer: Sendable {
    let port: Int
    let application: ServeApplication
    let services: ServiceGroup
    let lines: Lines

    /// What was logged, a JSON object a line.
    final class Lines: Sendable {
        private let lines = Mutex<[String]>([])
        var all: [String] { lines.withLock { $0 } }
        func append(_ line: [UInt8]) { lines.withLock { $0.append(String(decoding: line, as: UTF8.self)) } }

        /// Waits for a line with all of `marks`.
        func wait(for marks: String...) async throws -> String {
            while true {
                if let line = all.first(where: { line in marks.allSatisfy(line.contains) }) { return line }
                try await Task.sleep(for: .milliseconds(5))
            }
        }
    }

    func connect(receiveBuffer: Int32? = nil) async throws -> Wire {
        try await Wire(port: port, receiveBuffer: receiveBuffer)
    }

    /// One request on a connection of its own.
    func ask(_ request: String) async throws -> Wire.Reply {
        let wire = try await connect()
        try await wire.send(request)
        return try await wire.receiveReply()
    }
}

/// Runs `body` with a server in front of `backend`, and ends the server after that.
func withServer<Result: Sendable>(
    _ backend: any Backend, _ configuration: ServeApplication.Configuration = .init(),
    body: @Sendable (RunningServer) async throws -> Result
) async throws -> Result {
    let lines = RunningServer.Lines()
    let logger = Logger(label: "test") { label in JSONLines(label: label, level: .debug) { lines.append($0) } }
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let (ports, port) = AsyncStream<Int>.makeStream()
    let application = ServeApplication(
        backend: backend, configuration: configuration, metrics: PrometheusRegistry(), group: group, logger: logger
    ) {
        port.yield($0)
        port.finish()
    }
    let services = ServiceGroup(configuration: .init(services: [application], logger: logger))
    let result = try await withThrowingTaskGroup(of: Void.self) { tasks in
        tasks.addTask {
            defer { port.finish() }
            try await services.run()
        }
        guard let bound = await ports.first(where: { _ in true }) else {
            try await tasks.waitForAll()
            throw Wire.Failure(description: "the server ended before it listened")
        }
        let server = RunningServer(port: bound, application: application, services: services, lines: lines)
        do {
            let result = try await body(server)
            (backend as? StubBackend)?.release()
            await services.triggerGracefulShutdown()
            try await tasks.waitForAll()
            return result
        } catch {
            (backend as? StubBackend)?.release()
            await services.triggerGracefulShutdown()
            try? await tasks.waitForAll()
            throw error
        }
    }
    try await group.shutdownGracefully()
    return result
}
