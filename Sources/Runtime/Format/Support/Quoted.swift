/// `text` between quotation marks, fit for an error message whatever a hostile file put into it: control characters are
/// escaped and anything beyond `limit` scalars is left out.
package func quoted(_ text: String, limit: Int = 400) -> String {
    var result = "\""
    var count = 0
    for scalar in text.unicodeScalars {
        if count == limit {
            result += "…"
            break
        }
        if scalar == "\"" || scalar == "\\" || scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) {
            result += scalar.escaped(asASCII: true)
        } else {
            result.unicodeScalars.append(scalar)
        }
        count += 1
    }
    return result + "\""
}
