/// A byte-level BPE tokenizer as it travels inside a `.lathe` file: flat little-endian tables, used where they lie.
///
/// The offline half writes them, the online half reads them; nobody else need know what they hold. `N` below is the
/// number of ids (the largest id plus one; an id may be unused), `~0` the 32-bit word of ones.
///
/// | tensor | elements | holds |
/// |---|---|---|
/// | `tokenizer.vocabulary.bytes` | U8 | what each token decodes to, in the order of the ids |
/// | `tokenizer.vocabulary.offsets` | U32 [N + 1] | where each token begins in it, and the end |
/// | `tokenizer.vocabulary.kinds` | U8 [N] | `TokenKind` |
/// | `tokenizer.vocabulary.index` | U32 [capacity] | hash table from bytes to id; `~0` is a free slot |
/// | `tokenizer.bytes` | U32 [256] | the token of each single byte, `~0` if the vocabulary lacks it |
/// | `tokenizer.merges.index` | U32 [capacity][4] | hash table: left id, right id, rank, merged id; left `~0` is a free slot |
/// | `tokenizer.added.verbatim` | U32 [nodes][4] | trie of the added tokens searched for first |
/// | `tokenizer.added.normalized` | U32 [nodes][4] | trie of those searched for in what is left |
///
/// A trie node is: byte, first child, number of children, id or `~0`. The root is node 0; the nodes stand breadth
/// first without gaps, so the first child (or where it would stand) is one behind the last child of the nodes before, and
/// children of one node are in the order of their bytes.
///
/// Tensors may be longer than the settings say (the file pads them with zeros); what follows is ignored.
package struct TokenizerTables: Sendable {
    package enum ElementType: Sendable { case u8, u32 }

    package enum Name: String, CaseIterable, Sendable {
        case vocabularyBytes = "tokenizer.vocabulary.bytes"
        case vocabularyOffsets = "tokenizer.vocabulary.offsets"
        case vocabularyKinds = "tokenizer.vocabulary.kinds"
        case vocabularyIndex = "tokenizer.vocabulary.index"
        case byteTokens = "tokenizer.bytes"
        case mergeIndex = "tokenizer.merges.index"
        case addedVerbatim = "tokenizer.added.verbatim"
        case addedNormalized = "tokenizer.added.normalized"

        package var elementType: ElementType {
            switch self {
            case .vocabularyBytes, .vocabularyKinds: .u8
            default: .u32
            }
        }
    }

    /// The keys of `settings`. Counts are in elements, slots or nodes, as the tables above have them.
    package enum Setting: String, CaseIterable, Sendable {
        /// Always `TokenizerTables.kind`.
        case kind
        /// N.
        case tokens
        case vocabularyBytes = "vocabulary.bytes"
        case vocabularyCapacity = "vocabulary.capacity"
        /// No key stands further than this many slots behind the one that its hash names.
        case vocabularyProbes = "vocabulary.probes"
        case merges
        case mergeCapacity = "merges.capacity"
        case mergeProbes = "merges.probes"
        case addedVerbatim = "added.verbatim"
        case addedNormalized = "added.normalized"
        /// `gpt2`: by GPT-2's pattern; `none`: a piece between added tokens is one word.
        case split
        /// `true`: a piece that does not begin with a space is given one.
        case addPrefixSpace = "add_prefix_space"
        /// `true`: a word that is a token is that token, whatever the merges say.
        case ignoreMerges = "ignore_merges"
        /// The id that stands for bytes without a token; empty: they are dropped.
        case unknown
        /// `true`: a run of such bytes is one unknown token.
        case fuseUnknown = "fuse_unknown"
        /// `bytes`: decoding joins the tokens' bytes; `spelling`: their spellings in the byte alphabet, with spaces between.
        case decoder
        /// The ids put before and after every text: decimal, with commas between.
        case before
        case after
    }

    /// Changes whenever the meaning of a table does.
    package static let kind = "byte-level-bpe-1"

    package var tensors: [(name: String, bytes: ByteView)]
    package var settings: [String: String]

    package init(tensors: [(name: String, bytes: ByteView)], settings: [String: String]) {
        self.tensors = tensors
        self.settings = settings
    }

    /// The elements of the tensor `name`, nil if there is no such tensor in a tokenizer.
    package static func elementType(of name: String) -> ElementType? { Name(rawValue: name)?.elementType }

    /// The word that marks a free slot and an absent id.
    package static let none = UInt32.max

    /// A reader refuses tables that ask for more, so that a lookup ends soon whatever the file says.
    package static let maximumProbes = 256
    /// Ids lie below this.
    package static let maximumTokens = 1 << 24
    /// In bytes. The longest tokens of published vocabularies are runs of a thousand spaces.
    package static let maximumTokenLength = 1 << 16
    /// In bytes: at every byte of a text an added token may have to be followed this far.
    package static let maximumAddedTokenLength = 1024
}

/// What an id is: the elements of `tokenizer.vocabulary.kinds`.
package struct TokenKind: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The id has a token.
    package static let used = TokenKind(rawValue: 1)
    /// The token holds a character outside the byte alphabet, so it decodes to its own spelling and is no word of bytes.
    package static let literal = TokenKind(rawValue: 2)
    package static let added = TokenKind(rawValue: 4)
    package static let special = TokenKind(rawValue: 8)
    /// Matching an added token takes the white space on its left (right) with it.
    package static let stripsLeft = TokenKind(rawValue: 16)
    package static let stripsRight = TokenKind(rawValue: 32)
    /// The added token is matched only between characters that are no word characters.
    package static let singleWord = TokenKind(rawValue: 64)
}
