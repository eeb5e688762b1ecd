// Numbers as people read them.

package enum Bytes {
    /// As people write sizes: `117.9 MB`, powers of ten.
    package static func text(_ count: Int) -> String {
        let units = ["B", "kB", "MB", "GB", "TB"]
        var value = Double(count)
        var unit = 0
        while value >= 999.95 && unit < units.count - 1 {
            value /= 1000
            unit += 1
        }
        return unit == 0 ? "\(count) B" : "\(value.rounded(to: 1)) \(units[unit])"
    }
}

extension Double {
    /// Decimal digits behind the point, for people.
    package func rounded(to digits: Int) -> String {
        guard isFinite, abs(self) < 1e15 else { return "\(self)" }
        var factor = 1.0
        for _ in 0..<digits { factor *= 10 }
        let scaled = Int((abs(self) * factor).rounded())
        let sign = self < 0 && scaled != 0 ? "-" : ""
        let whole = scaled / Int(factor)
        guard digits > 0 else { return "\(sign)\(whole)" }
        let fraction = String(scaled % Int(factor))
        return "\(sign)\(whole)." + String(repeating: "0", count: digits - fraction.count) + fraction
    }
}

extension Double {
    /// Three digits and a power of ten, for people: `1.23e-4`.
    package var scientific: String {
        guard isFinite, self != 0 else { return "\(self)" }
        var mantissa = abs(self)
        var power = 0
        while mantissa >= 9.995 {
            mantissa /= 10
            power += 1
        }
        while mantissa < 0.9995 {
            mantissa *= 10
            power -= 1
        }
        let text = "\(self < 0 ? "-" : "")\(mantissa.rounded(to: 2))"
        return power == 0 ? text : "\(text)e\(power)"
    }
}
