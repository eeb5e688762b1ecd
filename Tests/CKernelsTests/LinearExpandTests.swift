import CKernels
import Testing

/// Expansion to int8 panels: exactly what the weights encode, and nothing beside the panels asked for.
@Suite struct LinearExpandTests {
    struct Subject: Sendable, CustomStringConvertible {
        var format: LinearQD8Format
        var name: String
        var description: String { "\(format), \(name)" }
    }

    static let subjects = LinearQD8Format.all.flatMap { format in
        LinearQD8Kernels.expansions.filter { $0.format == format.format && $0.features & ~lathe_cpu_features() == 0 }
            .map { Subject(format: format, name: String(cString: $0.name)) }
    }

    @Test(arguments: subjects) func givesThePanels(subject: Subject) {
        let expand = LinearQD8Kernels.expansions.first {
            $0.format == subject.format.format && String(cString: $0.name) == subject.name
        }!
        for (columns, depth) in [(1, 1), (16, 64), (17, 65), (77, 200), (64, 768), (33, 1100)] {
            for placement in GuardedBuffer.Placement.allCases {
                for extremes in [false, true] {
                    var generator = SeededGenerator(seed: UInt64(depth))
                    let encoded = subject.format.encode(
                        columns: columns, depth: depth, extremes: extremes, using: &generator)
                    let scales = [Float](repeating: 1, count: encoded.paddedColumns)
                    let weights = GuardedWeights(encoded, subject.format, scales: scales, placement: placement)
                    let (expected, panels) = (encoded.panels, encoded.paddedColumns / 16)
                    let panelBytes = encoded.paddedDepth * 16
                    for range in [0..<panels, 0..<1, panels - 1..<panels, panels..<panels] {
                        let output = GuardedBuffer(
                            bytes: range.count * panelBytes, alignment: 64, placement: placement)
                        withUnsafePointer(to: weights.weights) {
                            expand.run($0, range.lowerBound, range.upperBound, output.pointer())
                        }
                        let slice = expected[range.lowerBound * panelBytes..<range.upperBound * panelBytes]
                        #expect(output.array(of: Int8.self).elementsEqual(slice), "\(columns)×\(depth) \(range)")
                    }
                }
            }
        }
    }

    @Test func everyFormatHasADefinition() {
        for format in LinearQD8Format.all {
            #expect(String(cString: lathe_expand_select(format.format, 0).pointee.name) == "scalar")
        }
    }
}
