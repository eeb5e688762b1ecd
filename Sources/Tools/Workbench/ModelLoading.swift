public import Lathe
public import LatheCompiler
public import LatheFormat

/// Opens whatever a user may point a command at.
public enum ModelLoading {
    /// What stands at `path`, or would stand there converted, from headers alone.
    ///
    /// - Parameter weights: of a checkpoint, how it is to be converted (nil: int8); of a `.lathe` file, as if it had been
    ///   converted so (nil: as it is).
    package static func outline(path: String, weights: WeightFormats?) throws(LatheError) -> ModelOutline {
        if Files.isDirectory(path) { return try Compiler(weights: weights ?? .int8).outline(checkpoint: path) }
        let outline = try ModelOutline.read(path: path)
        return weights.flatMap { HypotheticalWeights(rawValue: $0.rawValue) }?.outline(outline) ?? outline
    }

    /// Opens a `.lathe` file, or converts a checkpoint folder into a file in memory and opens that.
    public static func load(
        path: String, weights: WeightFormats, threads: Int?, verify: Bool,
        placement: WeightPlacement = .map, warn: (String) -> Void = { _ in },
        progress: (Compiler.Progress) -> Void = { _ in }
    ) throws(LatheError) -> Model {
        guard Files.isDirectory(path) else { return try Model.open(path, verify: verify, placement: placement) }
        let compiler = Compiler(weights: weights, threads: try ThreadCount(requested: threads).count)
        return try load(checkpoint: path, compiler: compiler, warn: warn, progress: progress)
    }

    /// Converts a checkpoint folder into a file in memory and opens that.
    public static func load(
        checkpoint path: String, compiler: Compiler, warn: (String) -> Void = { _ in },
        progress: (Compiler.Progress) -> Void = { _ in }
    ) throws(LatheError) -> Model {
        let file = try compiler.compileInMemory(checkpoint: path, warn: warn, progress: progress)
        // What this process wrote itself a moment ago needs no checksum.
        return try Model(file: try ModelFile.open(mapped: file, verify: false), isConvertedInMemory: true)
    }

    /// The files that `load` reads: none of them may be an output.
    public static func inputPaths(_ path: String) throws(LatheError) -> [String] {
        Files.isDirectory(path) ? try Checkpoint(path: path).inputPaths : [path]
    }
}
