public import Lathe
import LatheCompiler
public import LatheFormat

extension ModelLoading {
    /// The tokenizer of a `.lathe` file, of a checkpoint folder, or of a folder that holds nothing else.
    public static func loadTokenizer(path: String) throws(LatheError) -> Tokenizer {
        if Files.isDirectory(path) {
            guard let tables = try TokenizerCompiler.compile(folder: path) else {
                throw LatheError(
                    .missing, "\(path) holds no tokenizer: neither tokenizer.json nor vocab.json with merges.txt.")
            }
            return try Tokenizer(tables: tables, source: path)
        }
        guard let tokenizer = try Model.open(path, verify: false).tokenizer else {
            throw LatheError(.missing, "\(path) was converted without a tokenizer.")
        }
        return tokenizer
    }
}
