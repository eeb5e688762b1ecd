import NIOCore
import Synchronization

/// Keeps a storm of clients that ask again at once, whatever they are told, from taking the processors of those who were
/// admitted: of the refusals of a tenth of a second some are given for nothing, and after each further one its connection is
/// left alone for a while before its next request is looked at. What comes on other connections does not wait.
final class RefusalPace: Sendable {
    private struct State {
        var end = NIODeadline.distantPast
        var count = 0
    }
    private let state = Mutex(State())
    /// In a tenth of a second.
    private let maximum: Int

    init(maximum: Int) { self.maximum = maximum }

    /// - Returns: how long the connection that was just refused is left alone.
    func pause(now: NIODeadline = .now()) -> TimeAmount {
        state.withLock { state in
            if now >= state.end { state = State(end: now + .milliseconds(100)) }
            state.count += 1
            return state.count > maximum ? Self.pause : .zero
        }
    }

    /// 800 connections are then refused some 4 000 times a second, a sixth of a processor's time; without it 23 000 times, by a
    /// whole processor.
    static let pause = TimeAmount.milliseconds(250)
    static let standardMaximum = 100
}
