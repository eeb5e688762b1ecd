import LatheFormat

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

// The process's own streams and signals: the one file of the tools that calls the system.

enum StandardOutput {
    static func write(_ text: String) { writeAll(text, to: 1) }
    static func print(_ text: String) { write(text + "\n") }
    static func print(_ json: JSON) { print(json.serialized()) }
}

enum StandardError {
    static func write(_ text: String) { writeAll(text, to: 2) }
    static func print(_ text: String) { write(text + "\n") }
    static let isTerminal = isatty(2) == 1
}

enum StandardInput {
    static let isTerminal = isatty(0) == 1

    /// Everything up to the end of the input, byte for byte.
    static func readAll() throws(LatheError) -> [UInt8] {
        var result: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(0, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw LatheError(.io, "Standard input cannot be read: \(systemMessage(errno)).") }
            if count == 0 { return result }
            result += buffer[..<count]
        }
    }
}

private func systemMessage(_ code: Int32) -> String {
    unsafe strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)"
}

enum ProcessArguments {
    /// The language mends arguments that are not UTF-8 without a word; a prompt must not be changed on its way.
    static func requireUTF8() throws(LatheError) {
        for index in 0..<Int(CommandLine.argc) {
            guard let argument = unsafe CommandLine.unsafeArgv[index] else { continue }
            let bytes = unsafe Array(UnsafeRawBufferPointer(start: argument, count: strlen(argument)))
            do {
                _ = try UTF8Span(validating: bytes.span)
            } catch {
                throw LatheError(
                    .invalidRequest,
                    "Argument \(index) is not valid UTF-8 at byte \(error.byteOffsets.lowerBound); encode it as UTF-8.")
            }
        }
    }
}

private func writeAll(_ text: String, to descriptor: Int32) {
    var text = text
    text.withUTF8 { bytes in
        var written = 0
        while written < bytes.count {
            let count = unsafe write(descriptor, bytes.baseAddress! + written, bytes.count - written)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                // A reader that went away ends the program as a pipe's end does elsewhere; there is nobody left to tell.
                if descriptor == 1 && errno != EPIPE {
                    writeAll("lathe: Standard output cannot be written: \(systemMessage(errno)).\n", to: 2)
                }
                exit(1)
            }
            written += count
        }
    }
}

// Written by the main thread before anything is mapped, read by the handler of SIGBUS; never freed.
nonisolated(unsafe) private var mappingMessage = unsafe UnsafeMutableBufferPointer<UInt8>(start: nil, count: 0)

enum Interruption {
    /// SIGINT ends the process with 130: temporary files of a conversion have no name yet, so nothing is left behind.
    /// SIGBUS means that a mapped file became shorter under us; it ends with a sentence instead of a crash report.
    static func install() {
        signal(SIGINT) { _ in _exit(130) }
        signal(SIGPIPE, SIG_IGN)
        // A write beyond RLIMIT_FSIZE is then an error like a full disk.
        signal(SIGXFSZ, SIG_IGN)
        willMap("The model file")
        signal(SIGBUS) { _ in
            // Only calls that a signal handler may make.
            unsafe _ = write(2, mappingMessage.baseAddress, mappingMessage.count)
            _exit(1)
        }
    }

    /// Says which file it is that SIGBUS will speak of.
    static func willMap(_ file: String) {
        let text = "lathe: \(printable(file)) became shorter while it was in use; convert or copy it again.\n"
        let message = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
        _ = unsafe message.initialize(from: text.utf8)
        unsafe mappingMessage = message
    }

    static func exitProcess(_ code: Int32) -> Never { exit(code) }
}
