import LatheFormat

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Prints a YAML file as JSON: `lathe-yaml FILE`.
///
/// A program of its own, beside `lathe`, because the library that reads YAML brings all of Foundation: 7 MB resident and
/// 6 MB of file, which no process that runs a model should carry for reading a list of recipes.
@main
enum Main {
    static func main() {
        do throws(LatheError) {
            guard CommandLine.arguments.count == 2 else {
                throw LatheError(.invalidRequest, "Usage: lathe-yaml FILE.")
            }
            let path = CommandLine.arguments[1]
            let bytes = try InputFile.open(path: path).readAll(maximumByteCount: 1 << 20).array()
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw LatheError(.corrupt, "\(quoted(path)) is not UTF-8; save it as UTF-8.")
            }
            print(try YAMLReading.parse(text, source: path).serialized())
        } catch {
            // What went wrong is the answer here: whoever asked reads one line and the exit code.
            print(error.message)
            exit(1)
        }
    }
}
