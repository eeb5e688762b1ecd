#if os(Linux)
    import Foundation
    import LatheFormat

    /// A control group below this process's own, for one process that a test starts.
    public final class LimitedGroup {
        private let version: Int
        private let folder: String
        private static let count = Counter()

        /// Whether such a group can be made: asked of the system, not of the code that is tested.
        public static func canBeMade(_ controller: String) -> Bool {
            (try? LimitedGroup(controller: controller, limits: { _ in [:] })) != nil
        }

        /// - Parameter limits: by the version of the system's groups, texts for files of the group.
        public init(controller: String, limits: (_ version: Int) -> [String: String]) throws {
            for group in ControlGroup.containing(controller: controller) {
                let home = group.folders[0]
                if group.version == 2 {
                    let delegated = try? String(contentsOfFile: "\(home)/cgroup.subtree_control", encoding: .utf8)
                    guard delegated?.contains(controller) == true else { continue }
                }
                let folder = "\(home)/lathe-test-\(getpid())-\(Self.count.next())"
                guard mkdir(folder, 0o755) == 0 else { continue }
                (version, self.folder) = (group.version, folder)
                for (name, text) in limits(group.version) {
                    try text.write(toFile: "\(folder)/\(name)", atomically: false, encoding: .utf8)
                }
                return
            }
            throw CocoaError(.fileWriteNoPermission)
        }

        /// Its process must have ended.
        deinit { rmdir(folder) }

        /// A shell's command that puts the shell into the group.
        public var entry: String { "echo $$ > '\(folder)/cgroup.procs'" }

        /// How often the kernel ended a process of the group because it was at its limit of memory.
        public var killCount: Int? {
            number(after: "oom_kill", in: version == 2 ? "memory.events" : "memory.oom_control")
        }

        private func number(after word: String, in name: String) -> Int? {
            let text = try? String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8)
            let line = text?.split(separator: "\n").first { $0.split(separator: " ").first == Substring(word) }
            return line?.split(separator: " ").last.flatMap { Int($0) }
        }

        /// Limits of memory, swapping excluded.
        public static func memory(_ bytes: Int) -> (_ version: Int) -> [String: String] {
            { $0 == 2 ? ["memory.max": "\(bytes)", "memory.swap.max": "0"] : ["memory.limit_in_bytes": "\(bytes)"] }
        }

        /// So many processors' time.
        public static func processors(_ count: Double) -> (_ version: Int) -> [String: String] {
            let quota = Int(count * 100_000)
            return { version in
                version == 2
                    ? ["cpu.max": "\(quota) 100000"]
                    : ["cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "\(quota)"]
            }
        }
    }

    private final class Counter: @unchecked Sendable {
        // Sendable: by the lock.
        private let lock = NSLock()
        private var value = 0
        func next() -> Int {
            lock.withLock {
                value += 1
                return value
            }
        }
    }
#endif
