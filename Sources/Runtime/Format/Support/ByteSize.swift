/// A size as people write it: `700MB`, `668MiB`, `0.7G`, `700000000`.
package enum ByteSize {
    private static let units: [Substring: Double] = [
        "": 1, "B": 1, "K": 1e3, "KB": 1e3, "M": 1e6, "MB": 1e6, "G": 1e9, "GB": 1e9, "T": 1e12, "TB": 1e12,
        "KI": 0x1p10, "KIB": 0x1p10, "MI": 0x1p20, "MIB": 0x1p20, "GI": 0x1p30, "GIB": 0x1p30,
    ]

    /// nil for what is no size, for less than a byte, and for more than a machine could have.
    package static func parse(_ text: String) -> Int? {
        let text = text.uppercased()
        let digits = text.prefix { ("0"..."9").contains($0) || $0 == "." }
        let unit = text.dropFirst(digits.count).drop { $0 == " " }
        guard let value = Double(digits), let factor = units[unit], value * factor >= 1, value * factor < 1e18
        else { return nil }
        return Int((value * factor).rounded())
    }
}
