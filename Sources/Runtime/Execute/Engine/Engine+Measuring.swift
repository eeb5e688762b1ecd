import LatheFormat

/// What an engine's compute thread is at.
package enum ComputePhase: Int32, Sendable, CaseIterable {
    /// Requests come and go, or there is none.
    case admission
    /// Rows go through the model, logits become tokens. In this phase nothing is allocated and nothing freed once the
    /// engine has run a step: not by the bookkeeping, nor by the kernels' threads, the sampler, the growing KV cache.
    case step
    /// A caller is told: token ids become text, and text goes into streams. What that allocates, grows with the text.
    case delivery
}

/// What benchmarks ask of an engine.
extension Engine {
    /// Calls `watcher` on the compute thread whenever it goes from one phase to another, from now on; it must not allocate
    /// itself. Returns when the thread has ended its step, if it is in one: what it did before has been told by then.
    package func watch(_ watcher: (@Sendable (ComputePhase) -> Void)?) async {
        await withCheckedContinuation { continuation in
            scheduler.submit {
                $0.watcher = watcher
                continuation.resume()
            }
        }
    }

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

    /// Bytes of weights, in whole pages, that were put on the nodes that read them.
    public var placedWeightBytes: Int { scheduler.placedWeightBytes }

    /// Whether packed weights were expanded while loading.
    package var hasExpandedWeights: Bool { residentWeightBytes > storedWeightBytes }
    package var storedWeightBytes: Int { model.file.outline.weightByteCount }

    /// The kernels that run, by family; those of int8 always, of other formats where the model has them.
    package var kernelNames: [(family: String, name: String)] {
        instructionSet.kernelNames(formats: scheduler.weightFormats)
    }

    /// The most bytes of a category that this engine has taken from its ledger.
    package func peakByteCount(_ category: MemoryCategory) -> Int { ledger.peak(category) }

    /// Bytes of all cache blocks that a session ever held.
    package func writtenKeyValueBytes() async -> Int {
        await withCheckedContinuation { continuation in
            scheduler.submit { continuation.resume(returning: $0.cache.writtenByteCount) }
        }
    }

    /// Bytes of keys and values that a token at `position` (counted from 0) reads and a step stores.
    package func keyValueBytes(position: Double) -> Double {
        let layout = KeyValueLayout(type: keyValueType, configuration: model.configuration)
        return (position + 1) * Double(layout.tokenBytes)
    }
}
