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
        var table = TextTable(["tensor", "type", "shape", "bytes"], rightAligned: [3])
        for tensor in inspection.tensors {
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
        for member in object.members {
            let value = if case .string(let text) = member.value { text } else { member.value.serialized() }
            StandardOutput.print("  \(printable(member.key)): \(printable(value))")
        }
    }
}
