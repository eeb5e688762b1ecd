import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1

/// How an accepted connection is set up, and run until it closes.
struct ServeChannel: HTTPChannelHandler {
    struct Value: ServerChildChannelValue {
        let parts: NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>
        let connection: Connection
        var channel: any Channel { parts.channel }
    }

    let responder: HTTPChannelHandler.Responder
    let rules: ConnectionRules
    let census: Census

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        let isAdmitted = census.enter()
        channel.closeFuture.whenComplete { [census] _ in census.leave() }
        return channel.eventLoop.makeCompletedFuture {
            try channel.syncOptions?.setOption(
                .socketOption(.so_sndbuf), value: SocketOptionValue(ConnectionRules.sendBuffer))
            try channel.syncOptions?.setOption(
                .recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: ConnectionRules.readBuffer))
            try channel.syncOptions?.setOption(.maxMessagesPerRead, value: 1)
            var limits = NIOHTTPDecoderLimitConfiguration()
            limits.maxHeaderFieldSize = ConnectionRules.maximumHead
            limits.maxHeaderListSize = ConnectionRules.maximumHead
            limits.maxHeaderFieldCount = ConnectionRules.maximumHeaderCount
            let connection = Connection(peer: channel.remoteAddress?.ipAddress ?? "local")
            let handler = ConnectionHandler(rules: rules, connection: connection, isAdmitted: isAdmitted)
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandler(ByteWatch(handler))
            // Neither pipelining nor errors are left to the library: the handler above says what becomes of them.
            try pipeline.configureHTTPServerPipeline(
                withPipeliningAssistance: false, withErrorHandling: false, withOutboundHeaderValidation: false,
                withEncoderConfiguration: .init(), withDecoderLimitConfiguration: limits)
            try pipeline.addHandler(handler)
            try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: false))
            try pipeline.addHandler(ConversionWatch(handler))
            let parts = try NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>(
                wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
            return Value(parts: parts, connection: connection)
        }
    }

    func handle(value: Value, logger: Logger) async {
        await value.connection.whileOpen { await handleHTTP(asyncChannel: value.parts, logger: logger) }
    }
}

/// Sees bytes before the parser does.
private final class ByteWatch: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let handler: ConnectionHandler

    init(_ handler: ConnectionHandler) { self.handler = handler }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        handler.bytesArrived(unwrapInboundIn(data).readableBytes)
        context.fireChannelRead(data)
    }
}

/// Sees what the codec behind the parser could not convert.
private final class ConversionWatch: ChannelInboundHandler {
    typealias InboundIn = HTTPRequestPart
    private let handler: ConnectionHandler

    init(_ handler: ConnectionHandler) { self.handler = handler }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { handler.conversionFailed(error) }
}
