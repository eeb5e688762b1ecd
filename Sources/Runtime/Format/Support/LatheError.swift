/// What went wrong, as one sentence for the person who must act: what is wrong, where, and what would mend it.
///
/// `code` is for programs, `message` for people. New codes may be added in any version; compare with `==` and keep a
/// default branch.
public struct LatheError: Error, Hashable, Sendable, CustomStringConvertible {
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        public let description: String
        private init(_ description: String) { self.description = description }

        /// A file is not what it says it is: truncated, overlapping, mistyped, failing its checksum.
        public static let corrupt = Code("corrupt")
        /// A file, tensor, configuration field or request part that must be there is not.
        public static let missing = Code("missing")
        /// Well-formed, but something this version does not do.
        public static let unsupported = Code("unsupported")
        /// The operating system refused: no such file, permission, no space.
        public static let io = Code("io")
        /// A request that its caller can mend: prompt too long, unknown token id, temperature that is no number.
        public static let invalidRequest = Code("invalid-request")
        /// A memory plan or budget says no; nothing was allocated.
        public static let budget = Code("budget")
        /// Computation met a value that is not finite.
        public static let notFinite = Code("not-finite")
    }

    public let code: Code
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
