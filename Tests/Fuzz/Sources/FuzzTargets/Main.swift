import Foundation

/// libFuzzer's entry (compiler-rt/lib/fuzzer/FuzzerInterface.h).
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ argumentCount: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

// Set once before the first input.
nonisolated(unsafe) private var chosen: ([UInt8]) -> Void = { _ in }

/// `FuzzTargets seeds FOLDER` writes the seeds; otherwise the target that the environment variable `FUZZ_TARGET` names is
/// fuzzed with libFuzzer's own arguments.
@main
enum Main {
    static func main() throws {
        try Seeds.prepare()
        if CommandLine.arguments.count == 3, CommandLine.arguments[1] == "seeds" {
            try Seeds.write(to: CommandLine.arguments[2])
            return try FileManager.default.removeItem(at: Seeds.scratch)
        }
        guard let target = targets[ProcessInfo.processInfo.environment["FUZZ_TARGET"] ?? ""] else {
            print("FUZZ_TARGET must be one of \(targets.keys.sorted().joined(separator: ", "))")
            exit(64)
        }
        unsafe chosen = target
        var count = CommandLine.argc
        var arguments = unsafe CommandLine.unsafeArgv
        let status = unsafe runDriver(&count, &arguments) { bytes, count in
            unsafe chosen(Array(UnsafeBufferPointer(start: bytes, count: count)))
            return 0
        }
        try? FileManager.default.removeItem(at: Seeds.scratch)
        exit(status)
    }
}
