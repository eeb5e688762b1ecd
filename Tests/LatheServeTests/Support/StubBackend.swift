import LatheService
import Synchronization

@testable import LatheServe

/// A service without a model: what it does with a call is said by the call's body.
///
/// - `hold`: does not answer before it is cancelled, or `release` is called
/// - `endless`: events without end, as fast as they are taken
/// - `stall`: one event, then nothing before it is cancelled
/// - `events`: three events
/// - `big`: a document of 4 MB
/// - all else is sent back.
final class StubBackend: Backend {
    struct State {
        var calls: [ServiceCall] = []
        var cancelled = 0
        var eventBytes = 0
        var isReady = true
        var isFull = false
        var isReleased = false
        var drains = 0
    }
    private let state = Mutex(State())
    private let warmUpHolds: Bool

    init(isReady: Bool = true, warmUpHolds: Bool = false) {
        state.withLock { $0.isReady = isReady }
        self.warmUpHolds = warmUpHolds
    }

    var isReady: Bool { state.withLock { $0.isReady } }
    var isFull: Bool { state.withLock { $0.isFull } }
    var calls: [ServiceCall] { state.withLock { $0.calls } }
    var cancelled: Int { state.withLock { $0.cancelled } }
    var eventBytes: Int { state.withLock { $0.eventBytes } }

    func change(_ body: (inout State) -> Void) { state.withLock { body(&$0) } }

    /// Looks again and again, until the task is cancelled.
    func wait(until condition: @Sendable (State) -> Bool) async {
        while !state.withLock({ condition($0) }), !Task.isCancelled { try? await Task.sleep(for: .milliseconds(2)) }
    }

    func refreshMetrics() {}
    let openAPI = OpenAPI.document(vocabularySize: 100)
    func release() { change { $0.isReleased = true } }

    func warmUp() async throws {
        if warmUpHolds { try await Task.sleep(for: .seconds(3600)) }
        change { $0.isReady = true }
    }

    func drain(within grace: Duration) async {
        change { $0.drains += 1 }
        await wait { $0.isReleased || $0.calls.isEmpty }
    }

    func models() -> ServiceDocument { ServiceDocument(status: 200, body: Array(#"{"object":"list"}"#.utf8)) }
    func memory() -> ServiceDocument { ServiceDocument(status: 200, body: Array(#"{"plan":{}}"#.utf8)) }

    func reply(to call: ServiceCall) async -> ServiceReply {
        change { $0.calls.append(call) }
        switch String(decoding: call.body, as: UTF8.self) {
        case "hold":
            await holdUntilReleased()
            return .document(ServiceDocument(status: 200, body: Array("held".utf8)))
        case "endless":
            return events { [self] in
                change { $0.eventBytes += 4096 }
                return Array("data: \(String(repeating: "x", count: 4088))\n\n".utf8)
            }
        case "stall":
            let count = Atomic(0)
            return events { [self] in
                if count.add(1, ordering: .relaxed).newValue == 1 { return Array("data: first\n\n".utf8) }
                await holdUntilReleased()
                return nil
            }
        case "events":
            let count = Atomic(0)
            return events {
                let number = count.add(1, ordering: .relaxed).newValue
                return number > 3 ? nil : Array("data: \(number)\n\n".utf8)
            }
        case "big":
            return .document(ServiceDocument(status: 200, body: [UInt8](repeating: 0x20, count: 4 << 20)))
        case "refuse":
            return .document(ServiceDocument(status: 429, body: Array("{}".utf8), retryAfterSeconds: 7))
        default:
            return .document(ServiceDocument(status: 200, body: call.body))
        }
    }

    private func holdUntilReleased() async {
        await withTaskCancellationHandler {
            await wait { $0.isReleased }
        } onCancel: {
            change { $0.cancelled += 1 }
        }
    }

    private func events(_ next: @escaping @Sendable () async -> [UInt8]?) -> ServiceReply {
        .events(
            ServiceEvents(rest: AsyncStream(unfolding: next, onCancel: { [self] in change { $0.cancelled += 1 } })))
    }
}
