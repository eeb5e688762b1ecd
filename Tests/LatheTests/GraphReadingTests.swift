import Lathe
import LatheFormat
import Testing

/// The graph as a file writes it: a field bent, a typed error that names the place.
@Suite struct GraphReadingTests {
    struct Lie: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let code: LatheError.Code
        /// What the message must say.
        let expected: String
        /// In the serialized graph, the first occurrence of the one is replaced by the other.
        let text: String
        let replacement: String
        init(_ text: String, _ replacement: String, _ code: LatheError.Code, _ expected: String) {
            testDescription = "\(text) → \(replacement)"
            (self.text, self.replacement, self.code, self.expected) = (text, replacement, code, expected)
        }
    }

    static let lies = [
        Lie(#""op":"embed""#, #""op":"convolve""#, .unsupported, "`convolve`"),
        Lie(#""op":"add""#, #""op":"""#, .unsupported, "operation 8"),
        Lie(#""encoding":"f32_p16""#, #""encoding":"f64""#, .unsupported, "`f64`"),
        Lie(#""element":"token_id""#, #""element":"f16""#, .unsupported, "`f16`"),
        Lie(#""width":10"#, #""width":-10"#, .corrupt, "width"),
        Lie(#""width":10"#, #""width":1e1"#, .corrupt, "width"),
        Lie(#""width":10"#, #""width":"10""#, .corrupt, "width"),
        Lie(#""shape":[21,10]"#, #""shape":[21.0,10]"#, .corrupt, "p0"),
        Lie(#""shape":[21,10]"#, #""shape":[99999999999999999999,10]"#, .corrupt, "p0"),
        Lie(#""start":10"#, #""start":null"#, .missing, "start"),
        Lie(#""head_activation_bits":16"#, #""head_activation_bits":12"#, .corrupt, "12 bits"),
        Lie(#""head_activation_bits":16"#, #""head_activation_bits":"16""#, .corrupt, "head_activation_bits"),
        Lie(#""inputs":[0]"#, #""inputs":0"#, .corrupt, "inputs"),
        Lie(#""epsilon":"#, #""epsilon":"x","e":"#, .corrupt, "epsilon"),
        Lie(#""scale":0.4"#, #""scale":1e999"#, .corrupt, "scale"),
    ]

    @Test(arguments: lies)
    func bentFieldIsRefused(lie: Lie) throws {
        let sound = GraphValidationTests.sound().graph
        let text = sound.json.serialized()
        try #require(text.contains(lie.text), "the graph is written as this test expects")
        let bent = text.replacing(lie.text, with: lie.replacement, maxReplacements: 1)
        let error = try #require(throws: LatheError.self) {
            let graph = try Graph(json: try JSON.parse(Array(bent.utf8), source: "bent"), source: "bent.lathe")
            try graph.validate(against: GraphValidationTests.sound().configuration, source: "bent.lathe")
        }
        #expect(error.code == lie.code, "\(error.message)")
        #expect(error.message.contains("bent.lathe") && error.message.contains(lie.expected), "\(error.message)")
    }

    /// Numbers come back with their bits.
    @Test func readsWhatItWrote() throws {
        let graph = GraphValidationTests.sound().graph
        let text = Array(graph.json.serialized().utf8)
        #expect(try Graph(json: try JSON.parse(text, source: "sound"), source: "sound") == graph)
    }
}
