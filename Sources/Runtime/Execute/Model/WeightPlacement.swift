package import LatheFormat

/// How the bytes of a `.lathe` file become memory.
public enum WeightPlacement: String, Sendable, Hashable, CaseIterable {
    /// Used where the system maps the file: shared with every process that maps it, and fetched as it is first touched.
    case map
    /// The same, fetched at once.
    case populate
    /// Read into the process's own memory, in pages of 2 MB where the system has them. Nothing that happens to the file
    /// later matters.
    case copy

    package var access: SafetensorsFile.Access {
        switch self {
        case .map: .mapped
        case .populate: .mappedWhole
        case .copy: .copied
        }
    }
}
