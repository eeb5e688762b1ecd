import LatheFormat

/// One way through a batch's files: lines come out in their order, answers come back in any, and are written in that of the
/// lines.
///
/// Answers that must wait for an earlier one are held, so many and so large at most; until it comes no more lines are
/// given out then.
struct BatchPass {
    private let input: InputFile
    private var reader: LineReader
    private let output: ResumableFile
    private let identity: BatchIdentity
    /// Lines that may be on their way.
    private let window: Int

    private var seen = CustomIDs()
    private var isAtEnd = false
    /// A line that was read and not given out yet.
    private var pending: (request: BatchRequest, end: Int)?
    /// The lines given out and not yet written, the first at `place`.
    private var underWay: ArraySlice<UnderWay> = []
    private var place = 0
    /// Of lines and answers in `underWay`.
    private var byteCount = 0
    /// Of the input, what has been answered, and what had been when this run began.
    private var answeredEnd = 0
    private var resumedEnd = 0

    private(set) var tally = BatchTally()

    private struct UnderWay {
        let end: Int
        var byteCount: Int
        var answer: BatchAnswer?
    }

    init(input: InputFile, output: ResumableFile, identity: BatchIdentity, window: Int) {
        self.input = input
        self.output = output
        self.identity = identity
        self.window = window
        reader = LineReader(input, maximumByteCount: BatchRequest.maximumLineBytes)
    }

    /// Every line has been answered, and every answer written.
    var isComplete: Bool { isAtEnd && pending == nil && underWay.isEmpty }

    func progress(resumed: BatchTally) -> BatchProgress {
        let all = Double(max(1, input.byteCount))
        return BatchProgress(
            fraction: Double(answeredEnd) / all, resumedFraction: Double(resumedEnd) / all, tally: tally,
            resumed: resumed)
    }

    // MARK: Going on

    /// Passes over the lines that an earlier run has answered, and drops what it left unfinished.
    ///
    /// - Throws: where the answers are not to these lines.
    mutating func skipAnswered() throws(LatheError) {
        var answers = LineReader(try output.open(), maximumByteCount: .max)
        var goodEnd = 0
        while let line = try answers.next(), line.isTerminated {
            var id = ""
            // Damage from here on: a power failure, perhaps.
            guard let answered = BatchTally(line: line.bytes!, id: &id) else { break }
            guard let (request, end) = try readRequest(), request.id == id else {
                throw LatheError(
                    .invalidRequest,
                    """
                    \(quoted(output.partialPath)), line \(line.number), is of another batch: another input, model or \
                    option. Finish that one, or remove the file to begin anew.
                    """)
            }
            tally.add(answered)
            (goodEnd, answeredEnd, resumedEnd) = (line.end, end, end)
        }
        try output.truncate(to: goodEnd)
        pending = try readRequest()
    }

    // MARK: Lines out, answers in

    /// The next line; nil where there is none, or none may be given out yet. A refused one needs no answer.
    mutating func next() throws(LatheError) -> (place: Int, request: BatchRequest)? {
        guard let (request, end) = pending, underWay.isEmpty || underWay.count < window && byteCount < Batch.windowBytes
        else { return nil }
        let place = place + underWay.count
        underWay.append(UnderWay(end: end, byteCount: request.byteCount, answer: nil))
        byteCount += request.byteCount
        if case .refused(let error) = request.content { answer(place, BatchAnswer(request, refusal: error)) }
        pending = try readRequest()
        return (place, request)
    }

    mutating func answer(_ place: Int, _ answer: BatchAnswer) {
        let index = underWay.startIndex + (place - self.place)
        underWay[index].answer = answer
        byteCount += answer.bytes.count - underWay[index].byteCount
        underWay[index].byteCount = answer.bytes.count
    }

    /// Writes what no earlier line holds up.
    /// - Returns: whether there was any.
    mutating func writeAnswers() throws(LatheError) -> Bool {
        let first = place
        while let front = underWay.first, let answer = front.answer {
            try output.append(ByteView(copying: answer.bytes))
            tally.add(answer.tally)
            answeredEnd = front.end
            byteCount -= front.byteCount
            // The slice keeps what it has passed.
            underWay[underWay.startIndex].answer = nil
            underWay.removeFirst()
            place += 1
        }
        return place > first
    }

    func finish() throws(LatheError) {
        precondition(isComplete)
        try output.finish()
    }

    private mutating func readRequest() throws(LatheError) -> (request: BatchRequest, end: Int)? {
        while let line = try reader.next() {
            if !line.isBlank { return (BatchRequest(line, run: identity, seen: &seen), line.end) }
        }
        isAtEnd = true
        return nil
    }
}
