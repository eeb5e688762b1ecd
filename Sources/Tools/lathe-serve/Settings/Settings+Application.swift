import Lathe
import LatheFormat
import LatheService
import Logging
import NIOCore
import SystemPackage

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

// What the settings mean for the server and the service.

extension Settings {
    /// - Throws: where the keys cannot be read.
    func application() throws(LatheError) -> ServeApplication.Configuration {
        var keys: KeyRing?
        if let path = text("server.api-key-file") {
            let bytes = try InputFile.open(path: path).readAll(maximumByteCount: 1 << 20).array()
            keys = try KeyRing(String(decoding: bytes, as: UTF8.self), source: path)
        }
        return ServeApplication.Configuration(
            host: try requiredText("server.host"), port: count("server.port")!,
            maximumConnections: count("server.max-connections")!, grace: duration("server.shutdown-grace"),
            keys: keys, maximumBody: bytes("server.max-body")!,
            headerTimeout: TimeAmount(duration("server.header-timeout")),
            bodyTimeout: TimeAmount(duration("server.body-timeout")),
            idleTimeout: TimeAmount(duration("server.idle-timeout")),
            writeTimeout: TimeAmount(duration("server.write-timeout")))
    }

    /// What the service is told; sessions and their tokens are planned with the model at hand.
    func service() throws(LatheError) -> ServiceSettings {
        let path = try requiredText("model.path")
        let file = path.split(separator: "/").last.map(String.init) ?? path
        let standardName = file.hasSuffix(".lathe") ? String(file.dropLast(6)) : file
        var settings = ServiceSettings(modelName: text("model.name") ?? standardName)
        settings.engine.memoryBudget = bytes("engine.memory-budget")
        settings.engine.contextLength = count("engine.context")
        settings.engine.threads = count("engine.threads")
        settings.engine.keyValueType = text("engine.kv").flatMap(KeyValueType.init)
        if let chunk = count("engine.prefill-chunk") { settings.engine.prefillChunk = chunk }
        settings.engine.runtimeBytes = ServerMemory.runtimeByteCount
        settings.engine.serverBytes = ServerMemory.byteCount(
            connections: count("server.max-connections")!, maximumBody: bytes("server.max-body")!)
        settings.sessions = count("engine.sessions")
        settings.queue = count("engine.queue")!
        settings.promptLookup = count("engine.prompt-lookup")!
        settings.timeout = duration("engine.request-timeout")
        return settings
    }

    /// Plans for the model's header, then loads it: what a plan does not hold is refused before a weight is touched.
    func textService(metrics: ServiceMetrics) throws(LatheError) -> TextService {
        let path = try requiredText("model.path")
        guard !Files.isDirectory(path) else {
            throw LatheError(
                .invalidRequest,
                "\(quoted(path)) is a folder; convert it first: lathe quantize \(path) -o model.lathe, then --model model.lathe."
            )
        }
        let settings = try service()
        let outline = try ModelOutline.read(path: path)
        let plan = try ServicePlan.fitting(settings) { options throws(LatheError) in
            try MemoryPlan(outline: outline, options: options)
        }
        MappedFileLoss.willEndProcess(of: "lathe-serve", mapping: String(printable(path)))
        let model = try Model.open(path)
        return try TextService(
            model: model, plan: try MemoryPlan(model: model, options: plan.options), settings: settings,
            metrics: metrics)
    }
}

extension ServeApplication.Configuration {
    /// Whether anybody on the network may use the model.
    var isOpenWithoutKeys: Bool { keys == nil && !Self.isLoopback(host) }

    static func isLoopback(_ host: String) -> Bool {
        host == "localhost" || host == "::1" || host.hasPrefix("127.") && host.split(separator: ".").count == 4
    }

    /// Several lines, so that nobody overlooks them.
    var openHostWarning: String {
        let bar = String(repeating: "!", count: 78)
        return """

            \(bar)
            !!  WARNING: lathe-serve listens on \(host) without any key.
            !!  Whoever can reach this machine can use the model, and all of its time.
            !!  Give --api-key-file FILE, or listen on 127.0.0.1 and put a proxy before it.
            \(bar)


            """
    }
}

func complain(_ message: String) { JSONLines.toStandardError(Array("lathe-serve: \(printable(message))\n".utf8)) }

func warnOfOpenHost(_ configuration: ServeApplication.Configuration) {
    guard configuration.isOpenWithoutKeys else { return }
    JSONLines.toStandardError(Array(configuration.openHostWarning.utf8))
}

/// As many connections as this process may open files for: twice the maximum may be open, and some files are needed
/// besides.
func connectionsWithinDescriptors(_ wanted: Int, _ logger: Logger) -> Int {
    let descriptors = sysconf(Int32(_SC_OPEN_MAX))
    let possible = max((descriptors - 32) / 2, 1)
    guard descriptors > 0, wanted > possible else { return wanted }
    logger.warning(
        "fewer connections than set: the limit of open files (ulimit -n) is too low",
        metadata: [
            "maximum": .stringConvertible(possible), "set": .stringConvertible(wanted),
            "open_files": .stringConvertible(descriptors),
        ])
    return possible
}
