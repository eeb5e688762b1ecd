import NIOCore
import NIOHTTP1

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Guards one connection, on its event loop, between the HTTP parser and the task that answers.
///
/// Requests reach the task one at a time and whole: a body is collected here, up to its maximum, so that no slow or
/// endless one occupies more than its bytes. While a request is answered the connection is still read, which is how a
/// client that went away is noticed within one turn of the loop; its task is then cancelled. Every wait has an end: for
/// a head, a body, the next request, and for the client to take its reply.
final class ConnectionHandler: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    enum Phase {
        /// Between requests; nothing of the next one has come.
        case idle
        case head
        case body
        /// The task has the request; further ones wait in `ahead`.
        case answering
        /// The last reply is on its way; whatever comes is dropped.
        case closing
        case closed
    }

    private let rules: ConnectionRules
    private let connection: Connection
    /// Whether this connection is within the maximum.
    private let isAdmitted: Bool
    private var context: ChannelHandlerContext?
    private var phase = Phase.idle

    private var requestHead: HTTPRequestHead?
    private var body = ByteBuffer()
    /// Of this request's body, in `rules.largeBodies` until it is answered.
    private var largeByteCount = 0
    private var ahead = CircularBuffer<HTTPServerRequestPart>()
    private var aheadByteCount = 0
    /// What the parser said behind the last of `ahead`.
    private var aheadError: Refusal?
    private var isReadHeld = false
    private var lingeredByteCount = 0

    private var isHeadRequest = false
    private var requestIsOld = false
    private var closesAfterReply = false
    /// Between this reply and the next request.
    private var pause = TimeAmount.zero
    private var replyByteCount = 0

    private var deadline: NIODeadline?
    private var timer: (task: Scheduled<Void>, due: NIODeadline)?
    private var unwrittenCount = 0
    private var lastTaken = NIODeadline.now()
    private var isWatchingWrites = false
    /// Why a reply that was not taken in full was lost.
    private var lossEnding = Exchange.Ending.clientGone

    init(rules: ConnectionRules, connection: Connection, isAdmitted: Bool) {
        self.rules = rules
        self.connection = connection
        self.isAdmitted = isAdmitted
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        setDeadline(in: rules.idleTimeout)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        leave(.cut)
        self.context = nil
    }

    // MARK: - Requests

    /// Told by the handler before the parser.
    func bytesArrived(_ count: Int) {
        switch phase {
        case .idle:
            phase = .head
            setDeadline(in: rules.headerTimeout)
        case .closing:
            lingeredByteCount += count
            if lingeredByteCount > ConnectionRules.maximumLinger { close(.cut) }
        default: break
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = unwrapInboundIn(data)
        switch phase {
        case .idle, .head, .body: receive(part)
        case .answering:
            aheadByteCount += Self.cost(of: part)
            ahead.append(part)
        case .closing, .closed: break
        }
    }

    /// What a part that waits occupies, about.
    private static func cost(of part: HTTPServerRequestPart) -> Int {
        switch part {
        case .head(let head): 512 + head.uri.utf8.count + head.headers.count * 64
        case .body(let bytes): 64 + bytes.readableBytes
        case .end: 64
        }
    }

    private func receive(_ part: HTTPServerRequestPart) {
        switch part {
        case .head(let head): begin(head)
        case .body(let bytes):
            guard phase == .body else { return }
            guard body.readableBytes + bytes.readableBytes <= rules.maximumBody else {
                return refuse(.bodyTooLong(maximum: rules.maximumBody))
            }
            let more = body.readableBytes + bytes.readableBytes - ConnectionRules.smallBody - largeByteCount
            if more > 0 {
                guard rules.largeBodies.take(more) else { return refuse(.bodiesTooMany) }
                largeByteCount += more
            }
            body.writeImmutableBuffer(bytes)
        case .end:
            guard phase == .body, let context, let head = requestHead else { return }
            phase = .answering
            deadline = nil
            requestHead = nil
            let bytes = body
            body = ByteBuffer()
            connection.update { $0.requestBytes = bytes.readableBytes }
            if rules.isFull(head.uri.prefix { $0 != "?" }) { return refuseWhileFull(context) }
            context.fireChannelRead(wrapInboundOut(.head(head)))
            if bytes.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(.body(bytes))) }
            context.fireChannelRead(wrapInboundOut(.end(nil)))
            context.fireChannelReadComplete()
        }
    }

    private func giveBackBody() {
        rules.largeBodies.giveBack(largeByteCount)
        largeByteCount = 0
    }

    private func begin(_ head: HTTPRequestHead) {
        phase = .body
        requestHead = head
        isHeadRequest = head.method == .HEAD
        requestIsOld = head.version.major == 1 && head.version.minor == 0
        // What HTTP/1.0 may keep open is not worth its rules.
        closesAfterReply = closesAfterReply || requestIsOld || !head.isKeepAlive
        replyByteCount = 0
        let path = head.uri.prefix { $0 != "?" }
        connection.begin(
            Exchange(method: head.method.rawValue, path: String(path.prefix(200)), received: .now))
        if let refusal = refusal(of: head, path: path) { return refuse(refusal) }
        let hasBody = head.headers.contains(name: "content-length") || head.headers.contains(name: "transfer-encoding")
        if !hasBody {
            deadline = nil
        } else {
            setDeadline(in: rules.bodyTimeout)
            if head.headers.contains(name: "expect") {
                let go = HTTPResponseHead(version: .http1_1, status: .continue)
                context?.writeAndFlush(wrapOutboundOut(.head(go)), promise: nil)
            }
        }
    }

    private func refusal(of head: HTTPRequestHead, path: Substring) -> Refusal? {
        if head.version.major != 1 { return .version }
        if head.uri.utf8.count > ConnectionRules.maximumTarget { return .targetTooLong }
        let hosts = head.headers["host"].count
        if hosts > 1 || hosts == 0 && !requestIsOld { return .noHost }
        if !isAdmitted, !rules.isAlwaysAnswered(path) { return .crowded }
        if let length = head.headers.first(name: "content-length").flatMap({ Int($0) }), length > rules.maximumBody {
            return .bodyTooLong(maximum: rules.maximumBody)
        }
        if let expectation = head.headers.first(name: "expect"), expectation.lowercased() != "100-continue" {
            return .expectation
        }
        return nil
    }

    // MARK: - Replies

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard phase == .answering else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        switch unwrapOutboundIn(data) {
        case .head(var head):
            if head.status.code >= 200 {
                connection.update {
                    $0.status = Int(head.status.code)
                    $0.firstByte = .now
                }
                if closesAfterReply { head.headers.replaceOrAdd(name: "connection", value: "close") }
                // A client of 1.0 knows no chunks: the end of the connection is the end of the reply.
                if requestIsOld { head.version = .http1_0 }
            }
            track(.head(head), promise)
        case .body(.byteBuffer(let bytes)):
            replyByteCount += bytes.readableBytes
            if isHeadRequest { promise?.succeed() } else { writePieces(of: bytes, promise) }
        case .body(let other): track(.body(other), promise)
        case .end(let trailers): endReply(trailers, promise)
        }
    }

    private func writePieces(of bytes: ByteBuffer, _ promise: EventLoopPromise<Void>?) {
        var bytes = bytes
        while bytes.readableBytes > ConnectionRules.writePiece,
            let piece = bytes.readSlice(length: ConnectionRules.writePiece)
        {
            track(.body(.byteBuffer(piece)), nil)
        }
        track(.body(.byteBuffer(bytes)), promise)
    }

    private func endReply(_ trailers: HTTPHeaders?, _ promise: EventLoopPromise<Void>?) {
        guard let context else { return }
        giveBackBody()
        let byteCount = replyByteCount
        connection.update { $0.replyBytes = byteCount }
        let exchange = connection.takeExchange()
        let written = promise ?? context.eventLoop.makePromise()
        if let exchange {
            written.futureResult.assumeIsolated().whenComplete { [self] result in
                rules.ended(exchange, (try? result.get()) == nil ? lossEnding : .sent)
            }
        }
        track(.end(trailers), written)
        context.flush()
        if pause > .zero && !closesAfterReply {
            // What comes meanwhile waits in `ahead`, as it does beside an answer.
            context.eventLoop.assumeIsolated().scheduleTask(in: pause) { [weak self] in
                if let self, phase == .answering { endAnswering() }
            }
        } else {
            endAnswering()
        }
    }

    private func endAnswering() {
        pause = .zero
        if closesAfterReply { linger() } else { awaitNext() }
    }

    private func awaitNext() {
        phase = .idle
        setDeadline(in: rules.idleTimeout)
        if !ahead.isEmpty || aheadError != nil {
            bytesArrived(0)
            while phase == .head || phase == .body, let part = ahead.popFirst() {
                aheadByteCount -= Self.cost(of: part)
                receive(part)
            }
            if phase != .answering, let aheadError { return refuse(aheadError) }
        }
        if isReadHeld, phase != .closed {
            isReadHeld = false
            context?.read()
        }
    }

    /// Tells the client that the service is full, without leaving this thread: under a storm refusals must cost next to
    /// nothing. They come a moment late, so that clients that ask again at once, whatever they are told, leave the processors
    /// to those who were admitted.
    private func refuseWhileFull(_ context: ChannelHandlerContext) {
        connection.update { $0.route = $0.path }
        let bytes = rules.refusal(.full)
        let head = Self.head(of: .full, byteCount: bytes.count)
        context.eventLoop.assumeIsolated().scheduleTask(in: ConnectionRules.refusalDelay) { [self] in
            guard phase == .answering, let context = self.context else { return }
            write(context: context, data: NIOAny(HTTPServerResponsePart.head(head)), promise: nil)
            let body = IOData.byteBuffer(ByteBuffer(bytes: bytes))
            write(context: context, data: NIOAny(HTTPServerResponsePart.body(body)), promise: nil)
            pause = rules.refusalPace.pause()
            write(context: context, data: NIOAny(HTTPServerResponsePart.end(nil)), promise: nil)
        }
    }

    private func refuse(_ refusal: Refusal) {
        guard let context, phase != .closing, phase != .closed else { return }
        phase = .closing
        let bytes = rules.refusal(refusal)
        var head = Self.head(of: refusal, byteCount: bytes.count)
        head.headers.add(name: "connection", value: "close")
        track(.head(head), nil)
        if !isHeadRequest { track(.body(.byteBuffer(ByteBuffer(bytes: bytes))), nil) }
        track(.end(nil), nil)
        context.flush()
        var exchange = connection.takeExchange() ?? Exchange(method: "", path: "", received: .now)
        exchange.status = Int(refusal.status.code)
        exchange.replyBytes = bytes.count
        rules.ended(exchange, .sent)
        linger()
    }

    private static func head(of refusal: Refusal, byteCount: Int) -> HTTPResponseHead {
        var headers: HTTPHeaders = ["content-type": "application/json", "content-length": String(byteCount)]
        if let seconds = refusal.retryAfterSeconds { headers.add(name: "retry-after", value: String(seconds)) }
        return HTTPResponseHead(version: .http1_1, status: refusal.status, headers: headers)
    }

    /// Says that nothing more will be sent, and waits a moment for the client to say the same.
    private func linger() {
        phase = .closing
        body = ByteBuffer()
        giveBackBody()
        requestHead = nil
        ahead.removeAll()
        setDeadline(in: ConnectionRules.lingerTimeout)
        context?.close(mode: .output, promise: nil)
        if isReadHeld { context?.read() }
    }
}

// MARK: - Time

extension ConnectionHandler {
    private func setDeadline(in amount: TimeAmount) {
        let due = NIODeadline.now() + amount
        deadline = due
        // One timer serves all deadlines: it looks again when it fires, and is moved only for an earlier one.
        if let timer, timer.due <= due { return }
        timer?.task.cancel()
        schedule(due)
    }

    private func schedule(_ due: NIODeadline) {
        guard let loop = context?.eventLoop else { return }
        timer = (loop.assumeIsolated().scheduleTask(deadline: due) { [weak self] in self?.timerFired() }, due)
    }

    private func timerFired() {
        timer = nil
        guard let deadline, phase != .closed else { return }
        if NIODeadline.now() < deadline { return schedule(deadline) }
        switch phase {
        case .idle, .closing:
            // While a reply is still being taken, its own timeout counts.
            if unwrittenCount > 0 { setDeadline(in: ConnectionRules.lingerTimeout) } else { close(.cut) }
        case .head: refuse(.slowHead)
        case .body: refuse(.slowBody)
        case .answering, .closed: break
        }
    }

    /// Writes one part and watches that it is taken.
    private func track(_ part: HTTPServerResponsePart, _ promise: EventLoopPromise<Void>?) {
        guard let context else { return }
        if unwrittenCount == 0 { lastTaken = .now() }
        unwrittenCount += 1
        let written = promise ?? context.eventLoop.makePromise()
        written.futureResult.assumeIsolated().whenComplete { [weak self] _ in
            guard let self else { return }
            unwrittenCount -= 1
            lastTaken = .now()
        }
        context.write(wrapOutboundOut(part), promise: written)
        if !isWatchingWrites { watchWrites(in: rules.writeTimeout) }
    }

    private func watchWrites(in amount: TimeAmount) {
        guard let loop = context?.eventLoop else { return }
        isWatchingWrites = true
        loop.assumeIsolated().scheduleTask(in: amount) { [weak self] in
            guard let self, phase != .closed else { return }
            isWatchingWrites = false
            guard unwrittenCount > 0 else { return }
            let waited = NIODeadline.now() - lastTaken
            if waited >= rules.writeTimeout {
                close(.writeTimeout)
            } else {
                watchWrites(in: rules.writeTimeout - waited)
            }
        }
    }
}

// MARK: - Ends

extension ConnectionHandler {
    func read(context: ChannelHandlerContext) {
        // The end of the stream is noticed even so: the system tells of it unasked.
        if phase == .answering, aheadByteCount > ConnectionRules.maximumAhead {
            isReadHeld = true
        } else {
            context.read()
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case ChannelEvent.inputClosed: close(.clientGone)
        case is ChannelShouldQuiesceEvent:
            closesAfterReply = true
            switch phase {
            case .idle: if unwrittenCount > 0 { linger() } else { close(.cut) }
            // It would be refused anyway; it may come in a moment, or not at all.
            case .head, .body: setDeadline(in: ConnectionRules.lingerTimeout)
            case .answering, .closing, .closed: break
            }
        default: context.fireUserInboundEventTriggered(event)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch phase {
        case .idle, .head, .body:
            if error is HTTPParserError { refuse(Refusal(error)) } else { close(.clientGone) }
        case .answering:
            // What was sent ahead is no HTTP; the request at hand, and those before it, are none the worse.
            if error is HTTPParserError { aheadError = Refusal(error) } else { close(.clientGone) }
        case .closing:
            if !(error is HTTPParserError) { close(.clientGone) }
        case .closed: break
        }
    }

    /// The head could not be told to the task: a field or method that HTTP does not allow.
    func conversionFailed(_ error: any Error) {
        guard phase == .answering else { return }
        refuse(Refusal(error))
    }

    func channelInactive(context: ChannelHandlerContext) {
        leave(.clientGone)
        context.fireChannelInactive()
    }

    private func close(_ ending: Exchange.Ending) {
        guard phase != .closed else { return }
        lossEnding = ending
        leave(ending)
        guard let context else { return }
        if ending == .writeTimeout {
            // What the client has not taken is not worth the kernel's memory any longer.
            (context.channel as? any SocketOptionProvider)?.setSoLinger(LingerOption(l_onoff: 1, l_linger: 0))
                .whenFailure { _ in }
        }
        context.close(promise: nil)
    }

    /// Cancels the task, and tells of a request that was not answered in full.
    private func leave(_ ending: Exchange.Ending) {
        guard phase != .closed else { return }
        let wasAnswering = phase == .answering
        phase = .closed
        timer?.task.cancel()
        timer = nil
        ahead.removeAll()
        body = ByteBuffer()
        giveBackBody()
        connection.end()
        if var exchange = connection.takeExchange() {
            exchange.replyBytes = replyByteCount
            if wasAnswering || exchange.status == 0 { rules.ended(exchange, ending) }
        }
    }
}

private typealias LingerOption = linger
