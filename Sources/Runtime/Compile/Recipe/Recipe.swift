public import LatheFormat

/// How a checkpoint becomes a `.lathe` file: which format each matrix gets, and what is done to its weights before.
///
/// Linear layers get `weights`. The embedding and the head, which are one matrix in most checkpoints, cost most when they
/// lose precision: they stay int8 and dense where the layers are int8 or int4, unless an override means them. The recipe
/// stands in the file, with what came of it.
public struct Recipe: Sendable, Hashable {
    /// Of linear layers.
    public var weights: WeightFormats
    /// Of int4: 32, 64 or 128 inputs share a multiplier.
    public var groupSize: Int
    /// Of linear layers in int8 and int4.
    public var sparse: SparseStorage
    /// The last one that matches a matrix decides.
    public var overrides: [Override]
    /// 8 or 16: the precision of what a quantized head multiplies by. Rounded to 8 bits, the head's inputs would cause half
    /// of what int8 costs; 16 bits take next to no time.
    public var headActivationBits: Int
    public var method: Method
    /// SmoothQuant's α (Xiao et al. 2022, arXiv 2211.10438); nil: weights and activations stay as they are.
    public var smooth: Double?
    /// Whether biases make up for the mean error of their matrix's output.
    public var correctsBias: Bool
    /// What the calibrated steps saw; nil where there is none.
    public var calibration: Calibration?

    public init(
        weights: WeightFormats = .int8, groupSize: Int = Recipe.defaultGroupSize, sparse: SparseStorage = .auto,
        overrides: [Override] = []
    ) {
        self.weights = weights
        self.groupSize = groupSize
        self.sparse = sparse
        self.overrides = overrides
        headActivationBits = 16
        method = .roundToNearest
        correctsBias = false
    }

    public static let defaultGroupSize = 64

    /// How the quantized numbers of a matrix are found.
    public enum Method: String, Sendable, Hashable, CaseIterable {
        /// Each weight by itself.
        case roundToNearest = "rtn"
        /// Each weight makes up for the error of those before it (Frantar et al. 2022, arXiv 2210.17323).
        case gptq
    }

    /// A format for the matrices that a pattern means.
    public struct Override: Sendable, Hashable {
        /// A name or a run of its components, with `*` and `?`; `lm_head` means a tied embedding too.
        public var pattern: String
        public var format: TensorFormat

        public init(pattern: String, format: TensorFormat) {
            self.pattern = pattern
            self.format = format
        }

        /// `PATTERN=FORMAT`, as `--override` takes it.
        public init(parsing text: String) throws(LatheError) {
            guard let equals = text.lastIndex(of: "="), equals != text.startIndex else {
                throw LatheError(
                    .invalidRequest,
                    "The override \(quoted(text)) has no pattern and format; write it as `c_proj=int8` or "
                        + "`lm_head=int4:g32`.")
            }
            pattern = String(text[..<equals])
            format = try TensorFormat(parsing: String(text[text.index(after: equals)...]))
        }
    }

    /// The text on which calibrated steps ran.
    public struct Calibration: Sendable, Hashable {
        /// Of the text's bytes.
        public var sha256: String
        /// How many stretches of the text were run, each of `length` tokens.
        public var windows: Int
        public var length: Int

        public init(sha256: String, windows: Int, length: Int) {
            self.sha256 = sha256
            self.windows = windows
            self.length = length
        }

        package init(text: ByteView, windows: Int, length: Int) {
            var digest = SHA256()
            digest.update(text)
            self.init(sha256: digest.finish(), windows: windows, length: length)
        }
    }

    /// Whether anything in it needs to see a text run through the model.
    public var needsCalibration: Bool { method != .roundToNearest || smooth != nil || correctsBias }

    /// - Throws: what cannot be done, in words that fit a command line as well as a file.
    package func check() throws(LatheError) {
        guard QuantizedPanels.groupSizes.contains(groupSize) else {
            throw LatheError(
                .invalidRequest,
                "Groups of \(groupSize) inputs do not exist; they can be of "
                    + "\(QuantizedPanels.groupSizes.map(String.init).joined(separator: ", ")).")
        }
        guard [8, 16].contains(headActivationBits) else {
            throw LatheError(
                .invalidRequest, "Head activations cannot have \(headActivationBits) bits; they can have 8 or 16.")
        }
        if let smooth, !(smooth > 0 && smooth < 1) {
            throw LatheError(
                .invalidRequest,
                "The α of smoothing is \(smooth); it must lie between 0 and 1, best between 0.5 and 0.7.")
        }
    }
}
