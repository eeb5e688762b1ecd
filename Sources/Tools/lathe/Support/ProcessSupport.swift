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
    static func warn(_ sentence: String) { print("lathe: note: \(sentence)") }
    static let isTerminal = isatty(2) == 1
}

enum StandardInput {
    static let isTerminal = isatty(0) == 1

    /// Everything up to the end of the input, byte for byte.
    static func readAll() throws(LatheError) -> [UInt8] { try readStream(0, name: "Standard input") }

    /// Everything that a pipe or a device such as /dev/stdin gives.
    static func readStream(path: String) throws(LatheError) -> [UInt8] {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw LatheError(.io, "Cannot open `\(path)`: \(systemMessage(errno)).") }
        defer { close(descriptor) }
        return try readStream(descriptor, name: "`\(path)`")
    }

    /// Far above any text that a model could read; an endless stream ends in an error.
    private static let maximumByteCount = 1 << 30

    static func readStream(_ descriptor: Int32, name: String) throws(LatheError) -> [UInt8] {
        var result: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw LatheError(.io, "\(name) cannot be read: \(systemMessage(errno)).") }
            if count == 0 { return result }
            result += buffer[..<count]
            guard result.count <= maximumByteCount else {
                throw LatheError(.io, "\(name) gives more than \(maximumByteCount) bytes.")
            }
        }
    }
}

private func systemMessage(_ code: Int32) -> String {
    unsafe strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)"
}

extension ProcessArguments {
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

/// What a child inherits of names and values.
private func environmentWords() -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? {
    #if canImport(Darwin)
        unsafe _NSGetEnviron().pointee
    #else
        unsafe environ
    #endif
}

// Written by the main thread, read by the handler of SIGINT; never freed.
nonisolated(unsafe) private var interruptionMessage = unsafe UnsafeMutableBufferPointer<UInt8>(start: nil, count: 0)

enum Interruption {
    /// SIGINT ends the process with 130: temporary files of a conversion have no name yet, so nothing is left behind. What a
    /// command leaves on purpose, `willLeave` says.
    static func install() {
        signal(SIGINT) { _ in
            // Only calls that a signal handler may make.
            unsafe _ = write(2, interruptionMessage.baseAddress, interruptionMessage.count)
            _exit(130)
        }
        signal(SIGPIPE, SIG_IGN)
        // A write beyond RLIMIT_FSIZE is then an error like a full disk.
        signal(SIGXFSZ, SIG_IGN)
        willMap("The model file")
    }

    /// Says which file it is that may become shorter under us.
    static func willMap(_ file: String) {
        MappedFileLoss.willEndProcess(of: "lathe", mapping: printable(file))
    }

    /// Says what stands behind when the process is interrupted.
    static func willLeave(_ sentence: String) {
        // Below a progress bar, which stays as it was.
        let text = "\(StandardError.isTerminal ? "\n" : "")lathe: \(printable(sentence))\n"
        let message = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
        _ = unsafe message.initialize(from: text.utf8)
        unsafe interruptionMessage = message
    }

    static func exitProcess(_ code: Int32) -> Never { exit(code) }
}

/// Another process of this program, or of one beside it.
enum ChildProcess {
    /// Runs `lathe` with `arguments` and waits for it.
    ///
    /// - Returns: what it wrote to standard output.
    /// - Throws: with its last line, where it did not end with 0; `budget` where it ended with 2.
    static func run(_ arguments: [String]) throws(LatheError) -> [UInt8] {
        try run(executablePath(), name: "lathe \(arguments[0])", arguments)
    }

    /// Runs the program called `name` in the folder of this one.
    static func run(sibling name: String, _ arguments: [String]) throws(LatheError) -> [UInt8] {
        let own = executablePath()
        let folder = own.lastIndex(of: "/").map { String(own[..<$0]) } ?? "."
        guard Files.isRegular("\(folder)/\(name)") else {
            throw LatheError(
                .missing, "This needs the program \(name) beside lathe, in `\(folder)`; `swift build` makes both.")
        }
        return try run("\(folder)/\(name)", name: name, arguments)
    }

    /// Goes on as the program called `name`: the one in this program's folder, else the one that PATH names.
    ///
    /// - Returns: why that cannot be; otherwise never.
    static func become(_ name: String, _ arguments: [String]) -> LatheError {
        let own = executablePath()
        let sibling = (own.lastIndex(of: "/").map { String(own[..<$0]) } ?? ".") + "/" + name
        let program = Files.isRegular(sibling) ? sibling : name
        // What this process ignores, the program would begin with ignored.
        signal(SIGPIPE, SIG_DFL)
        signal(SIGXFSZ, SIG_DFL)
        var words = unsafe ([program] + arguments).map { unsafe strdup($0) } + [nil]
        defer { for index in unsafe words.indices { unsafe free(words[index]) } }
        unsafe _ = execvp(program, &words)
        let reason = systemMessage(errno)
        return LatheError(
            .missing,
            "The program \(name) cannot be run (\(reason)); it must stand beside lathe or in a folder of PATH. "
                + "`swift build` makes both.")
    }

    fileprivate static func executablePath() -> String {
        #if canImport(Glibc)
            if let path = unsafe realpath("/proc/self/exe", nil) {
                defer { unsafe free(path) }
                return unsafe String(cString: path)
            }
        #endif
        return CommandLine.arguments[0]
    }

    private static func run(
        _ program: String, name: String, _ arguments: [String]
    ) throws(LatheError) -> [UInt8] {
        let output = try makePipe()
        let errors = try makePipe()
        var process = pid_t()
        let failure = spawn(&process, program, arguments, output: output.write, errors: errors.write)
        close(output.write)
        close(errors.write)
        defer {
            close(output.read)
            close(errors.read)
        }
        guard failure == 0 else {
            throw LatheError(.io, "\(name) could not be started: \(systemMessage(failure)).")
        }
        // One after the other: what a command writes to standard error fits the pipe.
        let text = try StandardInput.readStream(output.read, name: "The output of \(name)")
        let complaint = try StandardInput.readStream(errors.read, name: "The errors of \(name)")
        var status: Int32 = 0
        while unsafe waitpid(process, &status, 0) < 0 && errno == EINTR {}
        if status == 0 { return text }
        let (signal, code) = (status & 0x7F, status >> 8 & 0xFF)
        guard signal == 0 else {
            throw LatheError(
                .io, "\(name) was ended by signal \(signal); the machine may have run out of memory.")
        }
        let lines = String(decoding: complaint.isEmpty ? text : complaint, as: UTF8.self).split(separator: "\n")
        let reason = lines.last.map { $0.hasPrefix("lathe: ") ? String($0.dropFirst(7)) : String($0) }
        throw LatheError(code == 2 ? .budget : .io, reason ?? "\(name) ended with \(code).")
    }

    fileprivate static func makePipe() throws(LatheError) -> (read: Int32, write: Int32) {
        var ends: [Int32] = [0, 0]
        guard unsafe pipe(&ends) == 0 else {
            throw LatheError(.io, "No pipe to another process could be made: \(systemMessage(errno)).")
        }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }

    /// - Returns: 0, or the system's error.
    private static func spawn(
        _ process: inout pid_t, _ program: String, _ arguments: [String], output: Int32, errors: Int32
    ) -> Int32 {
        #if canImport(Glibc)
            var actions = unsafe posix_spawn_file_actions_t()
        #else
            var actions: posix_spawn_file_actions_t?
        #endif
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe _ = posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, output, 1)
        unsafe posix_spawn_file_actions_adddup2(&actions, errors, 2)
        var words = unsafe ([program] + arguments).map { unsafe strdup($0) } + [nil]
        defer { for index in unsafe words.indices { unsafe free(words[index]) } }
        return unsafe posix_spawn(&process, program, &actions, nil, &words, environmentWords())
    }
}

// MARK: - Watched processes

/// What this process was told by the one that started it; taken out of the environment, so that none of its own
/// children believes it is meant.
struct Commission {
    /// Where memory is to be kept low: `group`, `data:BYTES`; nil outside of a fence.
    let fence: String?
    /// The pipe on which to tell of phases.
    let phases: Int32?

    /// Read once, by the main thread, before anything else runs.
    static let current = Commission()

    private init() {
        let parent = Self.take(SupervisedProcess.parentVariable).flatMap { Int32($0) }
        if let parent { SupervisedProcess.endWithParent(parent) }
        fence = parent == nil ? nil : Self.take(Fence.variable)
        // A keeper leaves the pipe to the process that it keeps.
        let descriptor = unsafe getenv(PhasePipe.variable).flatMap { unsafe Int32(String(cString: $0)) }
        phases = descriptor.flatMap { fcntl($0, F_GETFD) >= 0 ? $0 : nil }
    }

    private static func take(_ name: String) -> String? {
        guard let value = unsafe getenv(name) else { return nil }
        defer { unsafe _ = unsetenv(name) }
        return unsafe String(cString: value)
    }

    /// Makes the pipe this process's own.
    func takePhases() -> Int32? {
        unsafe _ = unsetenv(PhasePipe.variable)
        if let phases { _ = fcntl(phases, F_SETFD, FD_CLOEXEC) }
        return phases
    }
}

/// This program again, as a child that does the work while this process watches from its main thread.
final class SupervisedProcess {
    struct Ending {
        /// nil where a signal ended it.
        let code: Int32?
        let signal: Int32?
        let peakResidentBytes: Int
    }

    static let parentVariable = "LATHE_PARENT"
    static var ownID: Int { Int(getpid()) }

    let id: Int
    private var ending: Ending?

    /// - Parameters:
    ///   - outputToErrors: gives the child standard error in place of standard output.
    ///   - descriptor: one that it inherits, by the same number.
    init(
        _ arguments: [String], environment: [(String, String)], outputToErrors: Bool = false,
        passing descriptor: Int32? = nil
    ) throws(LatheError) {
        for (name, value) in environment + [(Self.parentVariable, "\(getpid())")] {
            unsafe _ = setenv(name, value, 1)
        }
        // Waited for, instead of handled.
        var signals = Self.watchedSignals
        unsafe _ = pthread_sigmask(SIG_BLOCK, &signals, nil)
        var process = pid_t()
        let failure = Self.spawn(&process, arguments, outputToErrors, descriptor)
        for (name, _) in environment { unsafe _ = unsetenv(name) }
        guard failure == 0 else {
            throw LatheError(.io, "lathe could not be started again: \(systemMessage(failure)).")
        }
        id = Int(process)
    }

    private static var watchedSignals: sigset_t {
        var signals = sigset_t()
        unsafe _ = sigemptyset(&signals)
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGCHLD] { unsafe _ = sigaddset(&signals, signal) }
        return signals
    }

    private static func spawn(
        _ process: inout pid_t, _ arguments: [String], _ outputToErrors: Bool, _ descriptor: Int32?
    ) -> Int32 {
        #if canImport(Glibc)
            var actions = unsafe posix_spawn_file_actions_t()
            var attributes = posix_spawnattr_t()
        #else
            var actions: posix_spawn_file_actions_t?
            var attributes: posix_spawnattr_t?
        #endif
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe _ = posix_spawn_file_actions_destroy(&actions) }
        if outputToErrors { unsafe posix_spawn_file_actions_adddup2(&actions, 2, 1) }
        // Onto itself: it then stays open in the child.
        if let descriptor { unsafe posix_spawn_file_actions_adddup2(&actions, descriptor, descriptor) }
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe _ = posix_spawnattr_destroy(&attributes) }
        var noSignals = sigset_t()
        unsafe _ = sigemptyset(&noSignals)
        unsafe posix_spawnattr_setsigmask(&attributes, &noSignals)
        unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        let program = ChildProcess.executablePath()
        var words = unsafe ([program] + arguments).map { unsafe strdup($0) } + [nil]
        defer { for index in unsafe words.indices { unsafe free(words[index]) } }
        return unsafe posix_spawn(&process, program, &actions, &attributes, &words, environmentWords())
    }

    /// Waits for the child's end, passing on what this process is asked to do meanwhile.
    func waitUntilEnd() -> Ending {
        while true {
            if let ending = ending(waitingMilliseconds: 500) { return ending }
        }
    }

    /// How the child ended; nil while it runs.
    func ending(waitingMilliseconds milliseconds: Int) -> Ending? {
        #if os(Linux)
            if let ending = reap() { return ending }
            var signals = Self.watchedSignals
            var limit = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
            let signal = unsafe sigtimedwait(&signals, nil, &limit)
            if [SIGINT, SIGTERM, SIGHUP].contains(signal) { kill(pid_t(id), signal) }
        #else
            // Nothing there waits for a signal with a limit: look, and look again.
            var left = milliseconds
            while left > 0, ending == nil, reap() == nil {
                Self.sleep(milliseconds: min(left, 10))
                left -= 10
            }
        #endif
        return reap()
    }

    private func reap() -> Ending? {
        if let ending { return ending }
        var status: Int32 = 0
        var usage = rusage()
        guard unsafe wait4(pid_t(id), &status, WNOHANG, &usage) == pid_t(id) else { return nil }
        let signal = status & 0x7F
        ending = Ending(
            code: signal == 0 ? status >> 8 & 0xFF : nil, signal: signal == 0 ? nil : signal,
            peakResidentBytes: usage.ru_maxrss * 1024)
        return ending
    }

    // MARK: Other processes

    static func isAlive(_ process: Int) -> Bool { kill(pid_t(process), 0) == 0 || errno == EPERM }
    static func kill(_ process: Int) { _ = kill(pid_t(process), SIGKILL) }
    private static func kill(_ process: pid_t, _ signal: Int32) -> Int32 {
        #if canImport(Glibc)
            Glibc.kill(process, signal)
        #else
            Darwin.kill(process, signal)
        #endif
    }
    private func kill(_ process: pid_t, _ signal: Int32) { _ = Self.kill(process, signal) }

    static func sleep(milliseconds: Int) { usleep(UInt32(milliseconds) * 1000) }

    /// Ends this process as its child has ended.
    static func exit(as ending: Ending) -> Never {
        guard let number = ending.signal else { Interruption.exitProcess(ending.code ?? 1) }
        var signals = watchedSignals
        unsafe _ = pthread_sigmask(SIG_UNBLOCK, &signals, nil)
        signal(number, SIG_DFL)
        _ = kill(getpid(), number)
        // Where that signal ends nothing: as a shell says it.
        Interruption.exitProcess(128 + number)
    }

    // MARK: Of the child itself

    /// Nobody watches a process whose parent has died, so it dies too.
    fileprivate static func endWithParent(_ parent: Int32) {
        #if os(Linux)
            // Looked up by name, because Swift imports no function of variable arguments; these are all integers.
            typealias Control = @convention(c) (Int32, UInt, UInt, UInt, UInt) -> Int32
            guard let symbol = unsafe dlsym(nil, "prctl") else { return }
            let setParentDeathSignal: Int32 = 1
            _ = unsafe unsafeBitCast(symbol, to: Control.self)(setParentDeathSignal, UInt(SIGKILL), 0, 0, 0)
            if getppid() != parent { _exit(1) }
        #endif
    }

    /// From now on no private memory beyond `bytes` is given to this process: allocations fail.
    static func limitData(to bytes: Int) throws(LatheError) {
        var limit = rlimit(rlim_cur: rlim_t(bytes), rlim_max: rlim_t(bytes))
        #if canImport(Glibc)
            let failed = unsafe setrlimit(__rlimit_resource_t(RLIMIT_DATA.rawValue), &limit) != 0
        #else
            let failed = unsafe setrlimit(RLIMIT_DATA, &limit) != 0
        #endif
        if failed { throw LatheError(.io, "RLIMIT_DATA cannot be set to \(bytes): \(systemMessage(errno)).") }
    }

    /// Threads of processes that are started from now on have stacks of `bytes`, where they had more.
    static func limitStacks(to bytes: Int) {
        #if canImport(Glibc)
            let resource = __rlimit_resource_t(RLIMIT_STACK.rawValue)
        #else
            let resource = RLIMIT_STACK
        #endif
        var limit = rlimit()
        guard unsafe getrlimit(resource, &limit) == 0, limit.rlim_cur > rlim_t(bytes) else { return }
        limit.rlim_cur = rlim_t(bytes)
        unsafe _ = setrlimit(resource, &limit)
    }
}

/// The pipe on which a profiled process tells of its phases, a line each.
final class PhasePipe {
    static let variable = "LATHE_PHASES"

    let writeEnd: Int32
    private let readEnd: Int32
    private var rest: [UInt8] = []

    init() throws(LatheError) {
        (readEnd, writeEnd) = try ChildProcess.makePipe()
        _ = fcntl(readEnd, F_SETFL, O_NONBLOCK)
    }

    /// The lines that have come, after waiting at most `milliseconds` for one.
    func lines(waitingMilliseconds milliseconds: Int) -> [String] {
        var entry = pollfd(fd: readEnd, events: Int16(POLLIN), revents: 0)
        guard unsafe poll(&entry, 1, Int32(milliseconds)) > 0 else { return [] }
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(readEnd, $0.baseAddress, $0.count) }
        rest += buffer[..<max(0, count)]
        let lines = rest.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        rest = Array(lines.last ?? [])
        return lines.dropLast().map { String(decoding: $0, as: UTF8.self) }
    }

    /// Tells on the other end; if nobody listens, nothing happens.
    static func tell(_ line: String, on descriptor: Int32) {
        var text = line + "\n"
        text.withUTF8 { unsafe _ = write(descriptor, $0.baseAddress, $0.count) }
    }
}
