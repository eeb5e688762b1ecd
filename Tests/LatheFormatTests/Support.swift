@testable import LatheFormat

/// SplitMix64 (Steele, Lea, Flood 2014): a small seeded generator, so that a failing case can be met again.
struct SplitMix64: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

// MARK: - Files

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// The error that `body` throws; nil if it throws none.
func error(of body: () throws(LatheError) -> Void) -> LatheError? {
    do { try body() } catch { return error }
    return nil
}

/// Data that the project does not carry, beside the package.
let sharedData = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("shared/data").path

func sharedDataExists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: sharedData + "/" + name) }
