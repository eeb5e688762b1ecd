public import ArgumentParser
public import Lathe
public import LatheCompiler
import LatheFormat
import LatheWorkbench

/// What every command that runs a model takes.
struct ModelArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A .lathe file, or a checkpoint folder, which is then converted in memory.", valueName: "path"),
        completion: .file())
    var model: String = bundledModel

    @Option(
        help: ArgumentHelp("How the weights of a checkpoint folder are stored. (default: int8)", valueName: "format"))
    var weights: WeightFormats?

    @Option(help: ArgumentHelp("Compute threads. (default: what affinity, CPU quota and cores allow)", valueName: "n"))
    var threads: ThreadCounts?

    @Option(
        help: ArgumentHelp(
            "Element type of the KV cache. (default: f32 for f32 weights, else f16)", valueName: "type"))
    var kv: KeyValueType?

    @Option(
        help: ArgumentHelp(
            "The most prompt tokens that go through the model in one pass; no result depends on it.", valueName: "n"))
    var prefillChunk: Int = 256

    @Option(
        help: ArgumentHelp("Tokens that a session may hold. (default: the model's context length)", valueName: "n"))
    var context: Int?

    @Option(
        help: ArgumentHelp(
            "map: use the file where the system maps it; populate: the same, fetched at once; copy: read it into memory. "
                + "(default: map, but where --numa spreads them, a copy)",
            valueName: "how"))
    var weightsIn: WeightPlacement?

    @Option(
        help: ArgumentHelp(
            "auto: on a machine with several memory nodes keep each thread on one, and the weights that it reads there; off: "
                + "leave that to the system. No result depends on it. (default: auto, but off where --weights-in names a map; "
                + "off for a folder)",
            valueName: "how"))
    var numa: NUMAMode?

    @Flag(help: "Skip the checksums of a .lathe file while loading.")
    var noVerify = false

    /// What the model is, without loading it.
    func outline() throws(LatheError) -> ModelOutline {
        try requireBundledModel(model)
        return try ModelLoading.outline(path: model, weights: weights)
    }

    /// The model and its plan: a plan that does not fit is refused before a weight is touched.
    ///
    /// - Parameters:
    ///   - budget: what the whole process may take; nil: the limit under which it lives, where it has one.
    ///   - adjust: options that the command sets.
    func load(
        budget: ByteCount?, showProgress: Bool = true, _ adjust: (inout EngineOptions) -> Void = { _ in }
    ) throws(LatheError) -> (model: Model, plan: MemoryPlan) {
        var options = engineOptions(budget: budget)
        adjust(&options)
        let plan = try MemoryPlan(outline: try outline(), options: options)
        try plan.requireFit()
        PhaseMarks.plan(plan.json)
        Interruption.willMap(model)
        let model = try ModelLoading.load(
            path: model, weights: weights ?? .int8, threads: threads?.first, verify: !noVerify,
            placement: weightsIn ?? .map, warn: StandardError.warn
        ) { progress in
            if showProgress { ProgressBar.show(progress) }
        }
        return (model, try MemoryPlan(model: model, options: options))
    }

    func engineOptions(budget: ByteCount?) -> EngineOptions {
        var options = EngineOptions()
        options.threads = threads?.first
        options.contextLength = context
        options.keyValueType = kv
        options.prefillChunk = prefillChunk
        options.memoryBudget = budget?.bytes
        options.weightPlacement = weightsIn ?? .map
        // Whoever wants the weights in the file's map has them there, and a folder is converted into memory: as `Model` knows.
        let staysInMap = weightsIn == .map || weightsIn == .populate
        options.numa = Files.isDirectory(model) ? .off : numa ?? (staysInMap ? .off : .auto)
        return options
    }

    /// For the commands that run with one thread count; `bench` goes through several.
    func requireOneThreadCount() throws {
        if let threads, threads.counts.count > 1 { throw ValidationError("--threads takes one number here.") }
    }
}

/// `2`, or for benchmarks `1,2`.
struct ThreadCounts: ExpressibleByArgument {
    let counts: [Int]
    var first: Int { counts[0] }

    init?(argument: String) {
        counts = argument.split(separator: ",", omittingEmptySubsequences: false).compactMap { Int($0) }
        guard !counts.isEmpty, counts.count == argument.split(separator: ",", omittingEmptySubsequences: false).count
        else { return nil }
    }
}

extension WeightFormats: ExpressibleByArgument {
    public init?(argument: String) { self.init(named: argument) }
    public static var allValueStrings: [String] { names }
    public var defaultValueDescription: String { description }
}

extension KeyValueType: ExpressibleByArgument {}
extension WeightPlacement: ExpressibleByArgument {}
extension NUMAMode: ExpressibleByArgument {}

/// Text or token ids for a model to read: an argument, a file, or a list of ids.
struct InputArguments: ParsableArguments {
    @Option(help: ArgumentHelp("The text.", valueName: "string"))
    var text: String?
    @Option(help: ArgumentHelp("A file with the text, taken byte for byte.", valueName: "path"), completion: .file())
    var file: String?
    @Option(help: ArgumentHelp("Token ids, separated by commas.", valueName: "1,2,3"))
    var ids: String?

    func validate() throws {
        guard [text, file, ids].compactMap({ $0 }).count == 1 else {
            throw ValidationError("Give exactly one of --text, --file and --ids.")
        }
    }

    func tokens(_ model: Model, path: String) throws(LatheError) -> [Int32] {
        if let ids { return try parseTokenIDs(ids) }
        guard let tokenizer = model.tokenizer else { throw missingTokenizer(path) }
        if let file { return try tokenizer.encode(bytes: try readFile(file)) }
        return tokenizer.encode(text!)
    }
}

/// What `--model` stands for by default, as seen from the root of this repository.
let bundledModel = "models/novelist"

/// Elsewhere nobody asked for that path, so "no such file" alone would not help.
func requireBundledModel(_ path: String) throws(LatheError) {
    guard path != bundledModel || Files.exists(path) else {
        throw LatheError(
            .missing,
            "There is no \(bundledModel) here, the default model: give --model a .lathe file or a checkpoint folder.")
    }
}

func missingTokenizer(_ path: String) -> LatheError {
    LatheError(.missing, "\(path) has no tokenizer, so it takes no text: give token ids with --ids.")
}

/// `1,2,3`, with or without spaces beside the commas; nothing at all is an empty list.
func parseTokenIDs(_ list: String) throws(LatheError) -> [Int32] {
    func trimmed(_ text: Substring) -> Substring {
        var text = text.drop { $0 == " " }
        while text.last == " " { text.removeLast() }
        return text
    }
    if trimmed(list[...]).isEmpty { return [] }
    var ids: [Int32] = []
    for part in list.split(separator: ",", omittingEmptySubsequences: false) {
        let item = trimmed(part)
        guard item.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let id = Int32(item) else {
            throw LatheError(.invalidRequest, "`\(item)` in the list of ids is no token id; write them as 1,2,3.")
        }
        ids.append(id)
    }
    return ids
}

/// The text in a file; `-`, or anything that is no regular file, is read to its end.
func readFile(_ path: String) throws(LatheError) -> [UInt8] {
    if path == "-" { return try StandardInput.readAll() }
    if Files.isStream(path) { return try StandardInput.readStream(path: path) }
    return try Files.read(path).array()
}
