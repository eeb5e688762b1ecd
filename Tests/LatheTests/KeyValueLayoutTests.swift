import Lathe
import LatheFormat
import Testing

/// Where keys, values and scales lie in a block, and what they take.
@Suite struct KeyValueLayoutTests {
    private func configuration(heads: Int, dimension: Int) -> ModelConfiguration {
        ModelConfiguration(
            architecture: "gpt2", vocabularySize: 100, contextLength: 128, width: heads * dimension, layerCount: 2,
            headCount: heads, headDimension: dimension, beginningOfTextID: nil, endOfTextIDs: [])
    }

    /// GPT-2 small's block, counted by hand: 64 tokens, 12 layers, 12 heads of 64, K and V.
    @Test func sizesOfGPT2() {
        var small = configuration(heads: 12, dimension: 64)
        small.layerCount = 12
        for (type, token) in [(KeyValueType.float32, 73_728), (.float16, 36_864), (.int8, 19_584)] {
            let layout = KeyValueLayout(type: type, configuration: small)
            #expect(layout.tokenBytes == token)
            #expect(layout.blockBytes == 64 * token)
        }
    }

    @Test(arguments: KeyValueType.allCases, [1, 5, 16, 33, 64, 80])
    func partsAreAlignedAndFillTheBlock(type: KeyValueType, dimension: Int) {
        let layout = KeyValueLayout(type: type, configuration: configuration(heads: 3, dimension: dimension))
        let scales = type == .int8 ? 64 * 4 : 0
        var parts: [Range<Int>] = []
        for layer in 0..<2 {
            for head in 0..<3 {
                let (key, value) = (
                    layout.keyOffset(layer: layer, head: head), layout.valueOffset(layer: layer, head: head)
                )
                parts.append(key..<key + 64 * dimension * type.elementBytes + scales)
                parts.append(value..<value + 64 * ((dimension + 15) / 16 * 16) * type.elementBytes + scales)
            }
        }
        parts.sort { $0.lowerBound < $1.lowerBound }
        var end = 0
        for part in parts {
            #expect(part.lowerBound == end && part.lowerBound % 64 == 0)
            end = part.upperBound
        }
        #expect(end == layout.blockBytes)
    }
}
