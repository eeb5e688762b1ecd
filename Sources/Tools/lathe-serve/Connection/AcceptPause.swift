import Logging
import NIOCore

/// Lets the listening socket rest when the system refuses a connection, mostly for want of descriptors.
///
/// NIO's own `AcceptBackoffHandler` holds back its next read, but leaves the socket registered as readable after a failed one
/// (NIO 2.101): the event loop then turns without a pause, by a whole processor.
final class AcceptPause: ChannelInboundHandler {
    typealias InboundIn = any Channel

    private static let pause = TimeAmount.milliseconds(200)
    private let logger: Logger
    private var isFailing = false

    init(logger: Logger) { self.logger = logger }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if error is IOError {
            if !isFailing {
                logger.warning(
                    "connections wait, because the system gives none; raise the limit of open files",
                    metadata: ["error": "\(error)"])
            }
            isFailing = true
            setReading(false, context.channel)
            let channel = context.channel
            context.eventLoop.assumeIsolated().scheduleTask(in: Self.pause) { [weak self] in
                self?.setReading(true, channel)
            }
        }
        context.fireErrorCaught(error)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        isFailing = false
        context.fireChannelRead(data)
    }

    private func setReading(_ reads: Bool, _ channel: any Channel) {
        // It fails where the channel is closed, which is as good.
        try? channel.syncOptions?.setOption(.autoRead, value: reads)
    }
}
