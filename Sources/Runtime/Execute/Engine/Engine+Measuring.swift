/// What benchmarks ask of an engine.
extension Engine {
    /// Bytes a second at which the engine's own threads read its own weights, once, now.
    package func readBandwidth() async -> Double {
        await withCheckedContinuation { continuation in
            scheduler.submit { continuation.resume(returning: $0.readBandwidth()) }
        }
    }

    /// Bytes of weights that one decode step reads, as stored.
    package var stepWeightBytes: Int { scheduler.stepWeightBytes }

    /// Bytes of keys and values that a token at `position` (counted from 0) reads and a step stores.
    package func keyValueBytes(position: Double) -> Double {
        let layout = KeyValueLayout(type: keyValueType, configuration: model.configuration)
        return (position + 1) * Double(layout.tokenBytes)
    }
}
