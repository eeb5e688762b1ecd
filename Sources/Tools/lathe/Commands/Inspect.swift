import ArgumentParser
import LatheFormat
import LatheWorkbench

struct Inspect: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what is in a .lathe file, a checkpoint folder or any safetensors file.")

    @Argument(help: "The file or folder.", completion: .file())
    var path: String
    @Flag(help: "Print one JSON object.")
    var json = false

    func run() async throws {
        let inspection = try Inspection(path: path)
        if json { return StandardOutput.print(inspection.json) }
        StandardOutput.print("\(path): \(inspection.kind.rawValue), \(Bytes.text(inspection.fileBytes))")
        printObject("configuration", inspection.configuration)
        printObject("recipe", inspection.recipe)
        if !inspection.operations.isEmpty {
            StandardOutput.print("\ngraph, entry point decode:")
            for (count, operation) in inspection.operations { StandardOutput.print("  \(count) × \(operation)") }
        }
        if inspection.kind == .lathe { printWeights(inspection) } else { printTensors(inspection.tensors) }
    }

    private func printWeights(_ inspection: Inspection) {
        var table = TextTable(
            ["weights", "shape", "format", "zeros", "relative error", "bytes"], rightAligned: [3, 4, 5])
        for weight in inspection.weights where weight.shape.count == 2 {
            table.add([
                weight.name, weight.shape.map(String.init).joined(separator: " × "), weight.format,
                weight.sparsity.map(Percent.text) ?? "", weight.relativeError.map(Self.errorText) ?? "",
                Bytes.text(weight.bytes),
            ])
        }
        StandardOutput.write("\n" + table.text)
        let vectors = inspection.weights.filter { $0.shape.count == 1 }
        StandardOutput.print(
            "and \(vectors.count) vectors in f32, \(Bytes.text(vectors.reduce(0) { $0 + $1.bytes })).")
        let weights = inspection.weights.reduce(0) { $0 + $1.bytes }
        let tensors = inspection.tensors.reduce(0) { $0 + $1.bytes }
        StandardOutput.print(
            """
            \(Bytes.text(weights)) of weights, \(Bytes.text(tensors - weights)) of tokenizer tables, \
            \(Bytes.text(inspection.fileBytes - tensors)) of header.
            """)
    }

    private static func errorText(_ error: Double) -> String { error == 0 ? "exact" : error.rounded(to: 5) }

    private func printTensors(_ tensors: [Inspection.Tensor]) {
        var table = TextTable(["tensor", "type", "shape", "bytes"], rightAligned: [3])
        for tensor in tensors {
            table.add([
                tensor.name, tensor.dtype, tensor.shape.map(String.init).joined(separator: " × "),
                Bytes.text(tensor.bytes),
            ])
        }
        StandardOutput.write("\n" + table.text)
    }

    private func printObject(_ title: String, _ value: JSON) {
        guard case .object(let object) = value, !object.isEmpty else { return }
        StandardOutput.print("\n\(title):")
        // What came of each tensor stands in the table.
        for member in object.members where !(title == "recipe" && member.key == "tensors") {
            StandardOutput.print("  \(printable(member.key)): \(printable(text(member.value)))")
        }
    }

    private func text(_ value: JSON) -> String {
        switch value {
        case .string(let text): text
        case .array(let items): items.isEmpty ? "none" : items.map(text).joined(separator: ", ")
        case .object(let object):
            if let pattern = object["pattern"], let format = object["format"] {
                "\(text(pattern))=\(text(format))"
            } else {
                object.members.map { "\($0.key) \(text($0.value))" }.joined(separator: ", ")
            }
        default: value.serialized()
        }
    }
}
