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

    func service() throws(LatheError) -> ServiceSettings {
        ServiceSettings(
            model: try requiredText("model.path"), memoryBudget: bytes("engine.memory-budget"),
            sessions: count("engine.sessions"), context: count("engine.context"), queue: count("engine.queue")!,
            threads: count("engine.threads"), cacheFormat: text("engine.kv").flatMap { $0 == "auto" ? nil : $0 },
            prefillChunk: count("engine.prefill-chunk"), requestTimeout: duration("engine.request-timeout"))
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
