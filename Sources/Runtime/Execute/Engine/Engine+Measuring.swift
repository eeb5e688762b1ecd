/// What benchmarks ask of an engine.
extension Engine {
    /// Bytes a second at which the engine's own threads read its own weights, once, now.
    package func readBandwidth() async -> Double {
        await withCheckedContinuation { continuation in
            scheduler.submit { continuation.resume(returning: $0.readBandwidth()) }
        }
    }

    /// Bytes of weights that one decode step reads, as they are kept in memory.
    package var stepWeightBytes: Int { scheduler.stepWeightBytes }

    /// Bytes of all weights in memory: those of the file, unless the instruction set reads a packed format slower than what
    /// it encodes. Then the weights were expanded while loading.
    public var residentWeightBytes: Int { scheduler.residentWeightBytes }

    /// Whether packed weights were expanded while loading.
    package var hasExpandedWeights: Bool { residentWeightBytes > storedWeightBytes }
    package var storedWeightBytes: Int { model.file.outline.weightByteCount }

    /// The kernels that run, by family; those of int8 always, of other formats where the model has them.
    package var kernelNames: [(family: String, name: String)] {
        instructionSet.kernelNames(formats: scheduler.weightFormats)
    }

    /// Bytes of keys and values that a token at `position` (counted from 0) reads and a step stores.
    package func keyValueBytes(position: Double) -> Double {
        let layout = KeyValueLayout(type: keyValueType, configuration: model.configuration)
        return (position + 1) * Double(layout.tokenBytes)
    }
}
