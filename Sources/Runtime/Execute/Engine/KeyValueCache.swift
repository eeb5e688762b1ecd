import CKernels
package import LatheFormat

/// How keys and values are kept between tokens.
public enum KeyValueType: String, Sendable, Hashable, CaseIterable {
    case float32 = "f32"
    case float16 = "f16"
    /// Eight bits, with a float32 scale for each token's keys and another for its values, by layer and head.
    case int8

    var kernelType: lathe_kv_type {
        switch self {
        case .float32: LATHE_KV_F32
        case .float16: LATHE_KV_F16
        case .int8: LATHE_KV_I8
        }
    }
    package var elementBytes: Int {
        switch self {
        case .float32: 4
        case .float16: 2
        case .int8: 1
        }
    }
    /// Of the keys of one token and head, and again of its values.
    package var scaleBytes: Int { self == .int8 ? MemoryLayout<Float>.stride : 0 }
}

/// Where the keys and values of one block lie: 64 tokens, all layers and heads.
///
/// Of one head: K as `[4][d][16]` (token = 16·outer + inner), then, after all heads' K of the layer, V as `[64][d₁₆]`; in
/// int8 each of them followed by its scales, `[64]` float32.
package struct KeyValueLayout: Sendable, Hashable {
    package static let blockTokens = Int(LATHE_KV_BLOCK_TOKENS)
    package let type: KeyValueType
    package let layerCount: Int
    package let headCount: Int
    package let headDimension: Int

    package init(type: KeyValueType, configuration: ModelConfiguration) {
        self.type = type
        layerCount = configuration.layerCount
        headCount = configuration.headCount
        headDimension = configuration.headDimension
    }

    private var keyBytes: Int { Self.blockTokens * (headDimension * type.elementBytes + type.scaleBytes) }
    private var valueBytes: Int {
        Self.blockTokens * (headDimension.roundedUp(to: 16) * type.elementBytes + type.scaleBytes)
    }
    private var layerBytes: Int { headCount * (keyBytes + valueBytes) }
    /// 64-byte aligned, since 64 tokens are. A validated model's fits Int: its sizes are below 2²⁴.
    package var blockBytes: Int { layerCount * layerBytes }

    /// Keys and values of one token with their scales, without padding.
    package var tokenBytes: Int {
        2 * layerCount * headCount * (headDimension * type.elementBytes + type.scaleBytes)
    }

    package func keyOffset(layer: Int, head: Int) -> Int { layer * layerBytes + head * keyBytes }
    package func valueOffset(layer: Int, head: Int) -> Int {
        layer * layerBytes + headCount * keyBytes + head * valueBytes
    }
    package static func blocks(forTokens tokens: Int) -> Int { (tokens + blockTokens - 1) / blockTokens }
}

/// One pool of blocks for all sessions of an engine. Touched by the compute thread alone.
@safe
final class KeyValueCache {
    let layout: KeyValueLayout
    let blockCount: Int
    private let storage: AlignedBuffer
    private let base: UnsafeMutablePointer<UInt8>
    /// A stack: what was given back last is taken first, so that no more blocks are ever written than were held at once.
    private var free: [Int]
    private var fewestFree: Int

    /// Reserves address space for `blockCount` blocks; memory is taken when a block is first written.
    ///
    /// - Throws: `budget` where the plan or the system does not have as much.
    init(layout: KeyValueLayout, blockCount: Int, ledger: MemoryLedger) throws(LatheError) {
        self.layout = layout
        self.blockCount = blockCount
        storage = try ledger.buffer(
            layout.blockBytes * blockCount, .keyValueCache, for: "the keys and values of all sessions")
        unsafe base = storage.elements(of: UInt8.self)
        free = Array((0..<blockCount).reversed())
        fewestFree = blockCount
    }

    /// Extends `table` so that it holds `tokens` tokens. Its session has reserved them, so a free block is there.
    func grow(_ table: BlockTable, toTokens tokens: Int) {
        while table.blocks.count < KeyValueLayout.blocks(forTokens: tokens) {
            guard let block = free.popLast() else { preconditionFailure("more blocks taken than were reserved") }
            unsafe table.append(block, address: base + block * layout.blockBytes)
        }
        fewestFree = min(fewestFree, free.count)
    }

    /// Of the blocks that were ever taken.
    var writtenByteCount: Int { (blockCount - fewestFree) * layout.blockBytes }

    func release(_ table: BlockTable) {
        free.append(contentsOf: table.blocks)
        table.removeAll()
    }
}

/// The blocks of one timeline, in order of position.
@safe
final class BlockTable {
    private(set) var blocks: [Int] = []
    /// Room for every block that the timeline may ever hold, so that growing never moves it.
    private let addresses: AlignedBuffer
    let pointer: UnsafePointer<UnsafeMutablePointer<UInt8>?>

    init(capacity: Int) {
        addresses = AlignedBuffer(byteCount: capacity * MemoryLayout<UInt>.stride)
        unsafe pointer = UnsafePointer(addresses.elements(of: UnsafeMutablePointer<UInt8>?.self))
        blocks.reserveCapacity(capacity)
    }

    @unsafe
    fileprivate func append(_ block: Int, address: UnsafeMutablePointer<UInt8>) {
        unsafe addresses.elements(of: UnsafeMutablePointer<UInt8>?.self)[blocks.count] = unsafe address
        blocks.append(block)
    }

    fileprivate func removeAll() { blocks.removeAll(keepingCapacity: true) }
}
