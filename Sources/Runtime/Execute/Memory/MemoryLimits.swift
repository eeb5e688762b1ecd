/// The memory limit under which this process lives.
package enum MemoryLimits {
    package static func current() -> (bytes: Int, source: String)? { nil }
}
