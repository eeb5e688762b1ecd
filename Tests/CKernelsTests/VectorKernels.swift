import CKernels
import Testing

/// The vector and quantize kernels under test: their tables.
enum VectorKernels {
    static var table: [lathe_vector_kernel] {
        var count = 0
        let kernels = lathe_vector_kernels(&count)
        return Array(UnsafeBufferPointer(start: kernels, count: count))
    }
    static var definition: lathe_vector_kernel { table[0] }
    static let names = table.map { String(cString: $0.name) }

    /// The kernel of that name; where this machine cannot run it, the test is cancelled and says so.
    static func kernel(_ name: String) throws -> lathe_vector_kernel {
        let kernel = table.first { String(cString: $0.name) == name }!
        try requireFeatures(kernel.features, of: name)
        return kernel
    }
}

func requireFeatures(_ features: UInt32, of name: String) throws {
    let missing = features & ~lathe_cpu_features()
    if missing != 0 {
        try Test.cancel("this processor cannot run the kernel '\(name)': features \(missing) are missing")
    }
}

/// What the values of a test look like.
enum TestData: CaseIterable, Sendable {
    case ordinary
    /// A few values a thousand times the others, as GPT-2's activations have.
    case outliers
    /// Around the least normal float, most of them denormal.
    case denormal

    func floats(_ count: Int, using generator: inout SeededGenerator) -> [Float] {
        let values = generator.floats(count, in: -2...2)
        switch self {
        case .ordinary: return values
        case .outliers: return values.enumerated().map { $0.offset % 11 == 3 ? $0.element * 1000 : $0.element }
        case .denormal: return values.map { $0 * Float.leastNormalMagnitude * 0.4 }
        }
    }
}

extension Array where Element == Float {
    var bits: [UInt32] { map(\.bitPattern) }

    /// Rows of `width` values set apart to `stride`; the last row ends the array.
    func spread(width: Int, stride: Int, filler: Float = -7.5) -> [Float] {
        let rows = count / width
        var result = [Float](repeating: filler, count: (rows - 1) * stride + width)
        for row in 0..<rows { for j in 0..<width { result[row * stride + j] = self[row * width + j] } }
        return result
    }
}
