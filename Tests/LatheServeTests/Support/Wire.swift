import NIOPosix

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// One TCP connection to a server on this machine, by plain system calls: what is sent is exactly what a test says.
///
/// Calls block threads of a pool of their own, never those of the tasks that serve.
final class Wire: @unchecked Sendable {
    // Sendable: a test uses its connection from one task at a time.
    private static let pool: NIOThreadPool = {
        let pool = NIOThreadPool(numberOfThreads: 64)
        pool.start()
        return pool
    }()

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private let descriptor: Int32
    private var isOpen = true
    private var received: [UInt8] = []
    /// Bounds every wait, so that a broken server fails a test instead of holding it.
    private static let patience = timeval(tv_sec: 60, tv_usec: 0)

    init(port: Int, receiveBuffer: Int32? = nil) async throws {
        descriptor = try await Self.pool.runIfActive {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            guard descriptor >= 0 else { throw Failure(description: "socket: \(errno)") }
            if var size = receiveBuffer {
                setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
            }
            var wait = Self.patience
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &wait, socklen_t(MemoryLayout<timeval>.size))
            setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &wait, socklen_t(MemoryLayout<timeval>.size))
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = in_port_t(port).bigEndian
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            let result = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            guard result == 0 else {
                let code = errno
                Glibc.close(descriptor)
                throw Failure(description: "connect: \(code)")
            }
            return descriptor
        }
    }

    deinit { close() }

    func close() {
        if isOpen { _ = Glibc.close(descriptor) }
        isOpen = false
    }

    /// Ends the connection by a reset.
    func reset() {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        close()
    }

    func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    func send(_ text: String) async throws { try await send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) async throws {
        try await Self.pool.runIfActive { [descriptor] in
            var sent = 0
            while sent < bytes.count {
                let count = bytes.withUnsafeBytes {
                    Glibc.send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
                }
                guard count > 0 else { throw Failure(description: "send: \(errno) after \(sent) bytes") }
                sent += count
            }
        }
    }

    /// Sends what the system takes without waiting longer than a moment.
    /// - Returns: how much that was.
    func sendWithoutPatience(_ bytes: [UInt8]) async throws -> Int {
        try await Self.pool.runIfActive { [descriptor] in
            var sent = 0
            while sent < bytes.count {
                let count = bytes.withUnsafeBytes {
                    Glibc.send(
                        descriptor, $0.baseAddress! + sent, bytes.count - sent,
                        Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
                }
                if count > 0 {
                    sent += count
                } else {
                    var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    if poll(&waiting, 1, 300) <= 0 || waiting.revents & Int16(POLLERR | POLLHUP) != 0 { return sent }
                }
            }
            return sent
        }
    }

    /// - Returns: false at the end of the stream.
    private func receiveMore() async throws -> Bool {
        let bytes: [UInt8] = try await Self.pool.runIfActive { [descriptor] in
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count >= 0 else { throw Failure(description: "recv: \(errno)") }
            return Array(buffer[..<count])
        }
        received += bytes
        return !bytes.isEmpty
    }

    /// Everything until the server ends the connection; a reset ends it too.
    func receiveAll() async throws -> String {
        do {
            while try await receiveMore() {}
        } catch let failure as Failure where failure.description == "recv: \(ECONNRESET)" {}
        defer { received = [] }
        return String(decoding: received, as: UTF8.self)
    }

    /// Up to and with `mark`.
    func receive(through mark: String) async throws -> String {
        let mark = Array(mark.utf8)
        while true {
            if let range = received.firstRange(of: mark) {
                defer { received.removeSubrange(..<range.upperBound) }
                return String(decoding: received[..<range.upperBound], as: UTF8.self)
            }
            guard try await receiveMore() else {
                throw Failure(description: "ended after \(String(decoding: received, as: UTF8.self))")
            }
        }
    }

    struct Reply {
        var status: Int
        /// In lower case.
        var headers: [String: String]
        var body: String
        var version: String
    }

    /// One reply with a Content-Length, or without a body.
    func receiveReply(hasBody: Bool = true) async throws -> Reply {
        let lines = try await receive(through: "\r\n\r\n").split(separator: "\r\n")
        let words = lines[0].split(separator: " ")
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            headers[parts[0].lowercased()] = parts[1].drop { $0 == " " }.lowercased()
        }
        let count = hasBody ? Int(headers["content-length"] ?? "0") ?? 0 : 0
        while received.count < count {
            guard try await receiveMore() else { throw Failure(description: "the body ended early") }
        }
        defer { received.removeSubrange(..<count) }
        return Reply(
            status: Int(words[1])!, headers: headers, body: String(decoding: received[..<count], as: UTF8.self),
            version: String(words[0]))
    }
}

extension Wire {
    static func post(_ path: String, _ body: String, _ fields: String = "") -> String {
        "POST \(path) HTTP/1.1\r\nHost: test\r\n\(fields)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    static func get(_ path: String, _ fields: String = "") -> String {
        "GET \(path) HTTP/1.1\r\nHost: test\r\n\(fields)\r\n"
    }
}
