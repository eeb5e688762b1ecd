package import LatheFormat
import Synchronization

/// Tells a profiler what this process is doing. Without one every call does nothing.
package enum PhaseMarks {
    private static let listener = Mutex<(@Sendable (String) -> Void)?>(nil)

    /// - Parameter tell: takes one line at a time.
    package static func connect(process: Int, _ tell: @escaping @Sendable (String) -> Void) {
        listener.withLock { $0 = tell }
        send("process", "\(process)")
    }

    package static var isConnected: Bool { listener.withLock { $0 != nil } }

    /// A phase begins, and the one before ends: `load`, `warm-up`, `prefill`, `decode`, `idle`.
    package static func mark(_ phase: String) { send("phase", phase) }

    /// The bytes that the process may take.
    package static func budget(_ bytes: Int) { send("budget", "\(bytes)") }

    /// What was planned: `{"categories": {"weights": bytes, …}, "total_bytes": bytes}`.
    package static func plan(_ json: JSON) { send("plan", json.serialized()) }

    /// The most that each category really had, in the plan's form.
    package static func measured(_ json: JSON) { send("measured", json.serialized()) }

    private static func send(_ kind: String, _ text: String) { listener.withLock { $0 }?("\(kind) \(text)") }
}
