package import LatheFormat

/// The tensors of a checkpoint by name, whether they lie in one file or in shards.
package struct CheckpointWeights {
    package struct Entry {
        package let file: SafetensorsFile
        package let tensor: TensorInfo
    }

    package let files: [SafetensorsFile]
    private let entries: [String: Entry]

    package var names: some Collection<String> { entries.keys }
    package subscript(name: String) -> Entry? { entries[name] }

    init(folder: String, access: SafetensorsFile.Access) throws(LatheError) {
        let single = "\(folder)/model.safetensors"
        let index = "\(folder)/model.safetensors.index.json"
        if Files.exists(single) {
            let file = try SafetensorsFile.open(path: single, access: access)
            files = [file]
            entries = Dictionary(
                uniqueKeysWithValues: file.tensors.map { ($0.name, Entry(file: file, tensor: $0)) })
        } else if Files.exists(index) {
            (files, entries) = try Self.openShards(folder: folder, index: index, access: access)
        } else {
            throw Self.noWeights(in: folder)
        }
    }

    private static func openShards(
        folder: String, index: String, access: SafetensorsFile.Access
    ) throws(LatheError) -> ([SafetensorsFile], [String: Entry]) {
        let map = try Checkpoint.readJSON(index).object(at: index)
            .object("weight_map", in: index)
        var shards: [String: SafetensorsFile] = [:]
        var files: [SafetensorsFile] = []
        var entries: [String: Entry] = [:]
        for member in map.members {
            let name = member.key
            let shard = try member.value.string(at: "\(index), weight_map, `\(name)`")
            // A name, not a path: an index must not lead out of its folder.
            guard !shard.isEmpty, !shard.utf8.contains(UInt8(ascii: "/")), shard != "..", shard != "." else {
                throw LatheError(
                    .corrupt,
                    "\(index): `\(name)` is said to be in `\(shard)`; a shard must be a file name in the same folder.")
            }
            let file: SafetensorsFile
            if let open = shards[shard] {
                file = open
            } else {
                guard Files.exists("\(folder)/\(shard)") else {
                    throw LatheError(.missing, "\(index) names the shard `\(shard)`, which is not in \(folder).")
                }
                file = try SafetensorsFile.open(path: "\(folder)/\(shard)", access: access)
                shards[shard] = file
                files.append(file)
            }
            guard let tensor = file[name] else {
                throw LatheError(
                    .missing, "\(index) says that `\(name)` is in `\(shard)`, but it is not among its tensors.")
            }
            entries[name] = Entry(file: file, tensor: tensor)
        }
        for file in files {
            for tensor in file.tensors where entries[tensor.name]?.file !== file {
                throw LatheError(
                    .corrupt, "\(file.path) holds `\(tensor.name)`, which \(index) does not place there.")
            }
        }
        return (files, entries)
    }

    private static func noWeights(in folder: String) -> LatheError {
        let pickle = "\(folder)/pytorch_model.bin"
        guard Files.exists(pickle) || Files.exists("\(pickle).index.json") else {
            return LatheError(
                .missing, "\(folder) holds neither model.safetensors nor model.safetensors.index.json.")
        }
        return LatheError(
            .unsupported,
            """
            \(folder) holds only pytorch_model.bin, a Python pickle, which can run any code when it is read. \
            Convert it once: python3 -c "from transformers import AutoModelForCausalLM as M; \
            M.from_pretrained('\(folder)').save_pretrained('\(folder)', safe_serialization=True)"
            """)
    }
}
