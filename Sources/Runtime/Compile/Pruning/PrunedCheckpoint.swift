import LatheFormat

/// Writes a checkpoint again with zeros in some matrices: same files, tensors, element types and order, so that whatever
/// read it before reads it still.
struct PrunedCheckpoint {
    /// In the metadata of each weights file: how the zeros came about, as JSON.
    static let metadataKey = "lathe.pruning"

    let checkpoint: Checkpoint
    private let job: PruningJob
    /// By the names of the checkpoint's tensors.
    private let matrices: [String: PruningJob.Matrix]
    private let parameters: Set<String>
    private let pruning: String

    init(_ checkpoint: Checkpoint, _ job: PruningJob, _ matrices: [PruningJob.Matrix], metadata: JSON) {
        self.checkpoint = checkpoint
        self.job = job
        let definition = job.definition
        var byTensor: [String: PruningJob.Matrix] = [:]
        for matrix in matrices { byTensor[matrix.source.entry.tensor.name] = matrix }
        // A second copy of a tied embedding must stay a copy, or the two would no longer be tied.
        for (copy, tensor) in definition.copies { byTensor[copy] = byTensor[tensor] }
        self.matrices = byTensor
        parameters = Set(definition.weights.map(\.entry.tensor.name))
        pruning = metadata.serialized()
    }

    /// - Parameter progress: told of each tensor that is about to be written.
    func write(to folder: AtomicFolder, progress: (TensorInfo) -> Void) throws(LatheError) {
        for name in try companions() { try folder.copy("\(checkpoint.path)/\(name)", as: name) }
        for file in checkpoint.weights.files {
            let name = String(file.path[file.path.index(after: file.path.lastIndex(of: "/")!)...])
            var metadata = file.metadata
            // transformers refuses files that do not say which framework they are of.
            if metadata["format"] == nil { metadata["format"] = "pt" }
            metadata[Self.metadataKey] = pruning
            let writer = try SafetensorsWriter(
                file: try folder.makeFile(name),
                metadata: metadata.sorted { $0.key < $1.key }.map { ($0.key, $0.value) },
                tensors: file.tensors.map { TensorDeclaration(name: $0.name, dtype: $0.dtype, shape: $0.shape) })
            for tensor in file.tensors {
                progress(tensor)
                try write(tensor, of: file, to: writer)
                file.dropPageCache(of: tensor)
            }
            try writer.finish()
        }
        try folder.finish()
    }

    private static let pieceElements = 1 << 18

    /// Bytes of a piece as it is read, as floats and as it is written, at most.
    static let pieceByteCount = pieceElements * (8 + 4 + 8)

    private func write(_ tensor: TensorInfo, of file: SafetensorsFile, to writer: SafetensorsWriter) throws(LatheError)
    {
        let width = max(1, tensor.dtype.bitWidth / 8)
        let matrix = matrices[tensor.name]
        let made = try matrix.map { (matrix) throws(LatheError) in try job.mask(of: matrix) }
        let step = Self.pieceElements * width
        for start in stride(from: 0, to: tensor.byteCount, by: step) {
            let range = start..<min(start + step, tensor.byteCount)
            var piece = try file.bytes(of: tensor, range, ledger: job.ledger)
            if let matrix, let made {
                piece = try zeroed(piece, first: start / width, width: width, matrix.source, made.mask)
            } else if parameters.contains(tensor.name) {
                try requireFinite(tensor, of: file, start / width..<range.upperBound / width)
            }
            try writer.write(piece)
        }
        withExtendedLifetime(made) {}
    }

    /// The elements from `first` on, in the checkpoint's order, with zeros where the mask has none.
    private func zeroed(
        _ piece: ByteView, first: Int, width: Int, _ source: WeightSource, _ mask: WeightMask
    ) throws(LatheError) -> ByteView {
        let buffer = try job.ledger.buffer(piece.count, .windows, for: "a piece of \(quoted(source.entry.tensor.name))")
        buffer.copy(piece, at: 0)
        switch width {
        case 1: zero(buffer, UInt8.self, first, source, mask)
        case 2: zero(buffer, UInt16.self, first, source, mask)
        case 4: zero(buffer, UInt32.self, first, source, mask)
        default: zero(buffer, UInt64.self, first, source, mask)
        }
        return buffer.view
    }

    private func zero<T: FixedWidthInteger & BitwiseCopyable>(
        _ buffer: AlignedBuffer, _ type: T.Type, _ first: Int, _ source: WeightSource, _ mask: WeightMask
    ) {
        let (outputs, inputs) = (source.shape[0], source.shape[1])
        buffer.withMutableSpan(of: T.self) { elements in
            guard source.isTransposed else {
                for index in elements.indices where !mask[first + index] { elements[index] = 0 }
                return
            }
            var (input, output) = (first / outputs, first % outputs)
            for index in elements.indices {
                if !mask[output * inputs + input] { elements[index] = 0 }
                output += 1
                if output == outputs { (input, output) = (input + 1, 0) }
            }
        }
    }

    private func requireFinite(
        _ tensor: TensorInfo, of file: SafetensorsFile, _ elements: Range<Int>
    ) throws(LatheError) {
        if let bad = try file.floats(of: tensor, elements: elements, ledger: job.ledger).view.firstNotFinite {
            throw LatheError(
                .notFinite,
                "\(quoted(file.path)): the tensor \(quoted(tensor.name)) holds a value that is not finite at element "
                    + "\(elements.lowerBound + bad); no engine could run such a checkpoint, so repair it first.")
        }
    }

    // MARK: The other files

    /// Weights in other forms would still be dense, and what training left behind belongs to the old weights.
    private static let weightSuffixes = [
        ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".ot", ".gguf", ".lathe", ".pkl",
        ".tflite", ".bin.index.json", ".h5.index.json", ".msgpack.index.json",
    ]

    /// The names of the files that are copied as they stand: configuration, tokenizer, the shards' index. Folders, hidden
    /// files and weights are not.
    private func companions() throws(LatheError) -> [String] {
        let index = "model.safetensors.index.json"
        let isSingle = checkpoint.weights.files.first?.path.hasSuffix("/model.safetensors") ?? false
        return try Files.names(in: checkpoint.path).filter { name in
            !name.hasPrefix(".") && Files.isRegular("\(checkpoint.path)/\(name)")
                && !Self.weightSuffixes.contains { name.hasSuffix($0) }
                // Where the weights are one file, an index speaks of shards that are not used.
                && !(isSingle && name == index)
        }
    }
}

extension Checkpoint {
    /// How the checkpoint was pruned, as `lathe prune` wrote it: for the recipe of what is made of it. nil where it was not.
    package var pruning: JSON? {
        get throws(LatheError) {
            for file in weights.files {
                guard let text = file.metadata[PrunedCheckpoint.metadataKey] else { continue }
                return try JSON.parse(
                    Array(text.utf8), source: "\(quoted(file.path)): __metadata__ \"\(PrunedCheckpoint.metadataKey)\"")
            }
            return nil
        }
    }
}
