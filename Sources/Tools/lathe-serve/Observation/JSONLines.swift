import FoundationEssentials
import LatheFormat
import Logging
import SystemPackage

/// Writes each record as one JSON object on a line of standard error.
struct JSONLines: LogHandler {
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    var logLevel: Logger.Level
    let label: String
    /// Takes a whole line at once, its end included.
    let write: @Sendable ([UInt8]) -> Void

    init(label: String, level: Logger.Level, write: @escaping @Sendable ([UInt8]) -> Void = JSONLines.toStandardError) {
        self.label = label
        self.logLevel = level
        self.write = write
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// One call of the system, so that lines of several threads do not mix; who does not read them misses them.
    @Sendable static func toStandardError(_ line: [UInt8]) {
        _ = try? FileDescriptor.standardError.writeAll(line)
    }

    private static let time = Date.ISO8601FormatStyle(includingFractionalSeconds: true)

    func log(event: LogEvent) {
        var object = JSONObject()
        _ = object.append("time", .string(Date.now.formatted(Self.time)))
        _ = object.append("level", .string(event.level.rawValue))
        _ = object.append("message", .string("\(event.message)"))
        if let error = event.error { _ = object.append("error", .string("\(error)")) }
        var fields = metadata
        if let provided = metadataProvider?.get() { fields.merge(provided) { $1 } }
        if let own = event.metadata { fields.merge(own) { $1 } }
        for key in fields.keys.sorted() {
            if let value = fields[key] { _ = object.append(key, Self.json(value)) }
        }
        var line = Array(JSON.object(object).serialized().utf8)
        line.append(UInt8(ascii: "\n"))
        write(line)
    }

    private static func json(_ value: Logger.MetadataValue) -> JSON {
        switch value {
        case .string(let text): return .string(text)
        case .stringConvertible(let value):
            if let number = value as? Int { return .number(number) }
            if let number = value as? Double, number.isFinite { return .number(number) }
            return .string(value.description)
        case .array(let values): return .array(values.map(json))
        case .dictionary(let values):
            var object = JSONObject()
            for key in values.keys.sorted() {
                if let value = values[key] { _ = object.append(key, json(value)) }
            }
            return .object(object)
        }
    }
}
