import ArgumentParser
import Lathe
import LatheFormat
import LatheWorkbench

struct Tokenize: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Turn text into token ids, or back.",
        discussion: "The model may be a .lathe file, a checkpoint folder, or a folder that holds only a tokenizer.")

    @Option(
        help: ArgumentHelp("A .lathe file, or a folder with a tokenizer.", valueName: "path"), completion: .file())
    var model: String = bundledModel
    @Argument(help: "The text; read from stdin if absent.")
    var text: String?
    @Option(help: ArgumentHelp("A file with the text, taken byte for byte.", valueName: "path"), completion: .file())
    var file: String?
    @Option(help: ArgumentHelp("Token ids to turn into text.", valueName: "1,2,3"))
    var decode: String?
    @Flag(help: "Print one JSON object.")
    var json = false

    func validate() throws {
        guard [text, file, decode].compactMap({ $0 }).count <= 1 else {
            throw ValidationError("Give one of a text, --file and --decode.")
        }
    }

    func run() async throws {
        try requireBundledModel(model)
        Interruption.willMap(model)
        let tokenizer = try ModelLoading.loadTokenizer(path: model)
        if let decode {
            let text = try tokenizer.decode(try parseTokenIDs(decode))
            if json { StandardOutput.print(["text": .string(text)]) } else { StandardOutput.print(text) }
            return
        }
        let ids =
            if let text {
                tokenizer.encode(text)
            } else if let file {
                try tokenizer.encode(bytes: try readFile(file))
            } else {
                try tokenizer.encode(bytes: try StandardInput.readAll())
            }
        if json {
            StandardOutput.print(["ids": .array(ids.map(JSON.number))])
        } else {
            StandardOutput.print(ids.map(String.init).joined(separator: ","))
        }
    }
}
