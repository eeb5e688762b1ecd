/// The rows of logits that a step's requests want, and who chooses from them: requests side by side on the threads of the
/// team. Every list keeps its memory, so that a step takes none from the system.
final class Choices: @unchecked Sendable {
    // Sendable: the compute thread fills and empties it. While its team is inside `receive`, nothing changes but requests,
    // each by one thread alone, and the buffers of each thread.

    struct Wanted {
        let request: Request
        /// Of the step.
        let row: Int
        /// Of the token, in the request.
        let index: Int
    }

    /// Those of one request side by side, in its order.
    var wanted: [Wanted] = []
    /// Of each thread.
    private let buffers: [SamplingBuffers]

    init(executor: Executor) {
        wanted.reserveCapacity(executor.maximumRows)
        buffers = (0..<executor.choosers).map { _ in
            SamplingBuffers(
                vocabularySize: executor.configuration.vocabularySize, instructionSet: executor.instructionSet)
        }
    }

    /// Whether the request wants no other row of `places`. One that wants several (a prompt that is scored, guesses) takes each after
    /// the caller was told of the one before.
    func isAlone(_ place: Int, in places: Range<Int>) -> Bool {
        let request = wanted[place].request
        return (place == places.lowerBound || wanted[place - 1].request !== request)
            && (place + 1 == places.upperBound || wanted[place + 1].request !== request)
    }

    /// On every thread: its share of the requests that want one row of `places`, the first of which is the executor's first.
    /// Who chooses never changes what is chosen.
    func receive(_ places: Range<Int>, thread: Int, of threads: Int, from executor: Executor) {
        for place in stride(from: places.lowerBound + thread, to: places.upperBound, by: threads)
        where isAlone(place, in: places) {
            receive(place, slot: place - places.lowerBound, thread: thread, from: executor)
        }
    }

    /// - Parameter slot: the row of logits, of the executor.
    func receive(_ place: Int, slot: Int, thread: Int, from executor: Executor) {
        let request = wanted[place].request
        guard !request.isFinished, request.accepts(wanted[place].index) else { return }
        var mine = buffers[thread]
        executor.withLogits(slot) { logits in
            request.receive(logits, at: wanted[place].index, likeliest: executor.likeliest(slot), &mine)
        }
    }
}
