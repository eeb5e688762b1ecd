import FoundationEssentials
import Lathe
import LatheCompiler
import LatheFormat
import Testing

/// Where the tests of the tokenizer find files. What is beside the package may be missing; the tests that need it say so.
enum TokenizerFixtures {
    static let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path(percentEncoded: false)

    /// Data that the project does not carry: a folder `shared` beside the package, or beside the folder around it.
    private static func shared(_ path: String) -> String? {
        firstExisting(["\(package)/../shared/\(path)", "\(package)/../../shared/\(path)"])
    }

    private static func firstExisting(_ paths: [String]) -> String? {
        paths.first { FileManager.default.fileExists(atPath: $0) }
    }

    static let gpt2 = shared("data/gpt2-tokenizer")
    static let wikitext = shared("data/wikitext2/wiki.test.raw")
    static let novelist = firstExisting(["\(package)/models/novelist"]) ?? shared("models/novelist")
    /// A file that `scripts/golden/tokenizer.py differential` wrote.
    static let cases = ProcessInfo.processInfo.environment["LATHE_TOKENIZER_CASES"]

    static let bothAreThere = gpt2 != nil && novelist != nil

    static func folder(_ name: String) -> String? { name == "gpt2" ? gpt2 : novelist }

    static func bytes(_ path: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(filePath: path))) }

    static func golden(_ name: String) throws -> JSONObject {
        let path = "\(package)/Tests/Golden/tokenizer/\(name).json"
        return try JSON.parse(try bytes(path), source: path).object(at: path)
    }

    static func tokenizer(folder: String) throws -> Tokenizer {
        let tables = try #require(try TokenizerCompiler.compile(folder: folder))
        return try Tokenizer(tables: tables, source: folder)
    }
}

/// A folder that is removed with the value.
final class TokenizerFolder {
    let path =
        FileManager.default.temporaryDirectory.path(percentEncoded: false)
        + "lathe-tokenizer-\(UInt64.random(in: .min ... .max))"

    init(_ files: [String: String]) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        for (name, text) in files { try Data(text.utf8).write(to: URL(filePath: "\(path)/\(name)")) }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func compile() throws(LatheError) -> TokenizerTables? { try TokenizerCompiler.compile(folder: path) }

    /// The tables of a tokenizer.json, nil files aside.
    static func tables(_ description: JSON) throws -> TokenizerTables {
        try #require(try TokenizerFolder(["tokenizer.json": description.serialized()]).compile())
    }

    static func tokenizer(_ description: JSON) throws -> Tokenizer {
        try Tokenizer(tables: try tables(description), source: "test")
    }

    /// The error of compiling these files.
    static func failure(_ files: [String: String]) throws -> LatheError {
        let folder = try TokenizerFolder(files)
        return try #require(throws: LatheError.self) { try folder.compile() }
    }
}

extension JSON {
    /// The member of a member … of an object, for tests that bend a description.
    func replacing(_ path: [String], with value: JSON?) -> JSON {
        guard let key = path.first, case .object(let object) = self else { return value ?? .null }
        var members = object.members.map { ($0.key, $0.value) }
        let position = members.firstIndex { $0.0 == key }
        if path.count == 1 && value == nil {
            if let position { members.remove(at: position) }
        } else {
            let inner = (position.map { members[$0].1 } ?? .object(JSONObject())).replacing(
                Array(path.dropFirst()), with: value)
            if let position { members[position].1 = inner } else { members.append((key, inner)) }
        }
        return .object(JSONObject(members))
    }
}

/// Descriptions of tokenizers to bend.
enum TokenizerSamples {
    /// All bytes and a few merges; ids are in this order.
    static func bytes(merges: [(String, String)] = [], added: [JSON] = []) -> JSON {
        var tokens = ByteAlphabet.spellings.map { String(decoding: $0, as: UTF8.self) }
        for (left, right) in merges where !tokens.contains(left + right) { tokens.append(left + right) }
        let vocabulary = tokens.enumerated().map { ($1, JSON.number($0)) }
        return [
            "version": "1.0", "added_tokens": .array(added), "normalizer": nil,
            "pre_tokenizer": ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true],
            "post_processor": nil,
            "decoder": ["type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true],
            "model": [
                "type": "BPE", "vocab": .object(JSONObject(vocabulary)),
                "merges": .array(merges.map { [.string($0.0), .string($0.1)] }),
            ],
        ]
    }

    static func added(_ id: Int, _ content: String) -> JSON {
        [
            "id": .number(id), "content": .string(content), "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        ]
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same texts in every run.
struct TokenizerRandom: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word >> 31
    }

    /// Text of up to `limit` code points: ASCII, Latin, white space, and any scalar at all.
    mutating func text(limit: Int) -> String {
        var text = String.UnicodeScalarView()
        for _ in 0..<Int.random(in: 0...limit, using: &self) {
            let code: UInt32 =
                switch Int.random(in: 0..<8, using: &self) {
                case 0..<4: .random(in: 0x61...0x66, using: &self)
                case 4: .random(in: 0...0x7F, using: &self)
                case 5: .random(in: 0x80...0x24F, using: &self)
                case 6: [0x20, 0x0A, 0xA0, 0x2003, 0x3000, 0x27][Int.random(in: 0..<6, using: &self)]
                default: .random(in: 0...0x10FFFF, using: &self)
                }
            text.append(Unicode.Scalar(code) ?? " ")
        }
        return String(text)
    }
}
