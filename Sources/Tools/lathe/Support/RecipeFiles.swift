import LatheFormat

/// A list of recipes, from JSON or YAML. YAML is read by the program `lathe-yaml` beside this one.
func readRecipes(_ path: String) throws(LatheError) -> JSON {
    let bytes = try Files.read(path).array()
    // A file that begins as JSON does is JSON, which needs no other program.
    let first = bytes.first { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
    if first == UInt8(ascii: "[") || first == UInt8(ascii: "{") {
        return try JSON.parse(bytes, source: path, code: .invalidRequest)
    }
    let output = try ChildProcess.run(sibling: "lathe-yaml", [path])
    return try JSON.parse(output, source: path, code: .invalidRequest)
}
