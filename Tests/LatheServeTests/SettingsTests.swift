import Foundation
import LatheFormat
import LatheService
import Testing

@testable import LatheServe
@testable import LatheYAML

private func settings(
    _ arguments: [String] = [], environment: [String: String] = [:], file: String? = nil
) throws -> Settings {
    try Settings(
        arguments: (file == nil ? [] : ["--config", "lathe.yaml"]) + arguments, environment: environment
    ) { (path) throws(LatheError) in
        guard path == "lathe.yaml", let file else { throw LatheError(.io, "no such file") }
        return file
    }
}

private func message(_ body: () throws -> Void) -> String {
    do {
        try body()
        return ""
    } catch {
        return (error as? LatheError)?.message ?? "\(error)"
    }
}

@Suite struct SettingsTests {
    /// `lathe plan --serve` takes its own.
    @Test func standardsAreThoseOfThePlan() {
        #expect(
            Setting.named(key: "server.max-body")?.standard.flatMap(ByteSize.parse) == ServerMemory.standardMaximumBody)
        #expect(Setting.named(key: "server.max-connections")?.standard == "\(ServerMemory.standardConnections)")
    }

    @Test func namesAndStandardsAreSound() {
        for setting in Setting.table {
            #expect(Setting.table.filter { $0.key == setting.key }.count == 1)
            #expect(Setting.table.filter { $0.flag == setting.flag }.count == 1)
            #expect(setting.key.split(separator: ".").count == 2)
            if let standard = setting.standard { #expect(setting.kind.complaint(about: standard) == nil) }
        }
    }

    @Test func precedence() throws {
        let file = "server:\n  port: 1\n"
        let variable = ["LATHE_PORT": "2"]
        #expect(try settings().count("server.port") == 8080)
        #expect(try settings(file: file).count("server.port") == 1)
        #expect(try settings(environment: variable, file: file).count("server.port") == 2)
        let flagged = try settings(["--port", "3"], environment: variable, file: file)
        #expect(flagged.values["server.port"] == .init(text: "3", origin: .flag("port")))
        let overridden = try settings(["server.port=4"], environment: variable, file: file)
        #expect(overridden.values["server.port"] == .init(text: "4", origin: .override))
        #expect(try settings(["--port=5", "server.port=6"]).count("server.port") == 6)
        #expect(try settings(["server.port=6", "--port=5"]).count("server.port") == 5)
    }

    @Test func everySettingIsReachedEveryWay() throws {
        for setting in Setting.table {
            let value = sample(setting)
            let name = setting.key.split(separator: ".")
            #expect(try settings(["--\(setting.flag)", value]).text(setting.key) == value)
            #expect(try settings(["\(setting.key)=\(value)"]).text(setting.key) == value)
            #expect(try settings(environment: [setting.variable: value]).text(setting.key) == value)
            #expect(try settings(file: "\(name[0]):\n  \(name[1]): \(value)\n").text(setting.key) == value)
            #expect(try settings(file: "\(setting.key): '\(value)'\n").text(setting.key) == value)
            #expect(Settings.help.contains("--\(setting.flag) "))
            #expect(Settings.markdownTable.contains("`\(setting.variable)`"))
        }
    }

    private func sample(_ setting: Setting) -> String {
        switch setting.kind {
        case .text: "some/path"
        case .choice(let words): words[words.count - 1]
        case .count(let range), .countOrWord(let range, _): String(range.upperBound)
        case .bytes: "700MB"
        case .seconds: "2.5"
        }
    }

    @Test func theReportReadsBackAsAFile() throws {
        let first = try settings(["--model", "it's here.lathe", "--memory-budget", "668 MiB", "--host", "::1"])
        let again = try settings(file: first.report)
        #expect(first.values.mapValues(\.text) == again.values.mapValues(\.text))
        #expect(first.report.contains("# flag --host"))
        #expect(first.report.contains("# engine.context"))
    }

    @Test(arguments: [
        (["--prot", "1"], "There is no flag --prot; did you mean port?; see --help."),
        (["--port"], "The flag --port needs a value behind it."),
        (["--port", "65536"], "server.port is \"65536\" (flag --port); it must be a whole number from 0 to 65535."),
        (["--port", "-1"], "server.port is \"-1\" (flag --port); it must be a whole number from 0 to 65535."),
        (["server.prot=1"], "There is no setting \"server.prot\"; did you mean server.port?."),
        (["nonsense"], "\"nonsense\" is neither a flag nor an override such as server.port=9000."),
        (
            ["--kv", "int9"],
            "engine.kv is \"int9\" (flag --kv); it must be one of auto, f32, f16, int8."
        ),
    ])
    func refusesWithASentence(arguments: [String], sentence: String) {
        #expect(message { _ = try settings(arguments) } == sentence)
    }

    @Test func refusesUnknownVariablesAndKeys() {
        #expect(message { _ = try settings(environment: ["LATHE_ISA": "avx2", "PATH": "/"]) } == "")
        let variable = message { _ = try settings(environment: ["LATHE_PROT": "1"]) }
        #expect(variable.contains("\"LATHE_PROT\"") && variable.contains("did you mean LATHE_PORT?"))
        let key = message { _ = try settings(file: "server:\n  host: a\n  prot: 1\n") }
        #expect(key.contains("line 3") && key.contains("\"server.prot\""))
        #expect(message { _ = try settings(environment: ["LATHE_QUEUE": ""]) }.contains("LATHE_QUEUE"))
    }

    @Test func saysWhatIsMissing() throws {
        let settings = try settings()
        #expect(message { _ = try settings.requiredText("model.path") }.contains("LATHE_MODEL"))
    }

    @Test(arguments: ["0x10", "1e999MB", "nan", "MB", "-1", "1XB", "0"])
    func refusesSizes(text: String) { #expect(ByteSize.parse(text) == nil) }
}

@Suite struct SettingsFileTests {
    @Test func readsMapsOfScalars() throws {
        let text = """
            ---
            # a comment
            server:   # another
                port: 9000
                host: "a \\"b\\" # c"   # more
            model.path: 'it''s'

            log:
              level: debug
            """
        let entries = try SettingsFile(text, source: "f").entries
        #expect(entries.map(\.key) == ["server.port", "server.host", "model.path", "log.level"])
        #expect(entries.map(\.value) == ["9000", "a \"b\" # c", "it's", "debug"])
        #expect(entries.map(\.line) == [4, 5, 6, 9])
    }

    /// What the reader takes, a library for YAML reads as the same.
    @Test(arguments: [
        "a: 1\nb:\n  c: x y z\n  d:\n    e: '#'\nf: a#b\n", "a: \"\\\\\"\r\nb: 2\r\n", "a:\n c: -1\n d: a:b\n",
        "a: 'x' # y\nb:    z   \n", "---\na: 1", "", "# nothing\n\n",
    ])
    func agreesWithAYAMLLibrary(text: String) throws {
        var expected: [String] = []
        func flatten(_ value: JSON, _ path: String) {
            switch value {
            case .object(let object):
                for member in object.members {
                    flatten(member.value, path.isEmpty ? member.key : path + "." + member.key)
                }
            case .string(let text): expected.append("\(path)=\(text)")
            case .number(let digits): expected.append("\(path)=\(digits)")
            default: if value != .null { expected.append("\(path)=\(value)") }
            }
        }
        flatten(try YAMLReading.parse(text, source: "f"), "")
        #expect(try SettingsFile(text, source: "f").entries.map { "\($0.key)=\($0.value)" } == expected)
    }

    @Test(arguments: [
        ("a: 1\na: 2\n", "line 2"), ("a:\n  b: 1\n   c: 2\n", "line 3"), ("a:\nb: 1\n", "line 1"), ("a:", "line 1"),
        ("- a\n", "line 1"), ("a: [1]\n", "line 1"), ("a: {b: 1}\n", "line 1"), ("a: &x 1\n", "line 1"),
        ("a: *x\n", "line 1"), ("a: !!str 1\n", "line 1"), ("a: |\n  b\n", "line 1"), ("\ta: 1\n", "line 1"),
        ("a: 'b\n", "line 1"), ("a: \"\\n\"\n", "line 1"), ("a: b: c\n", "line 1"), ("a: null\n", "line 1"),
        ("a 1\n", "line 1"), ("a: 1\n b: 2\n", "line 2"), ("a: 1\n---\nb: 1\n", "line 2"), ("a: - b\n", "line 1"),
        ("a: 'b' c\n", "line 1"), (" a: 1\n", "line 1"), ("a:b\n", "line 1"), ("a: b\n  c\n", "line 2"),
    ])
    func refusesTheRestByLine(text: String, place: String) {
        let sentence = message { _ = try SettingsFile(text, source: "f") }
        #expect(sentence.contains("\"f\"") && sentence.contains(place), "\(sentence)")
    }

    @Test func documentationHasTheTable() throws {
        let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("docs/serving.md")
        #expect(try String(contentsOf: page, encoding: .utf8).contains(Settings.markdownTable))
    }
}
