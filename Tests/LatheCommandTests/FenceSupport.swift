#if os(Linux)
    import Foundation
    import LatheFormat

    /// `fence: cgroup v1, limit 200.0 MB, peak 12.3 MB, 0 times at the limit`
    struct FenceReport {
        let means: String
        let limit: Double
        let peak: Double

        init?(_ errors: String) {
            guard
                let line = errors.split(separator: "\n").first(where: { $0.hasPrefix("fence: ") })?.dropFirst(7)
            else { return nil }
            let parts = line.split(separator: ", ")
            func megabytes(_ index: Int, _ name: String) -> Double? {
                guard parts.count > index, parts[index].hasPrefix(name), parts[index].hasSuffix(" MB") else {
                    return nil
                }
                return Double(parts[index].dropFirst(name.count).dropLast(3))
            }
            guard let limit = megabytes(1, "limit "), let peak = megabytes(2, "peak ") else { return nil }
            (means, self.limit, self.peak) = (String(parts[0]), limit, peak)
        }
    }

    /// The control groups that fences make.
    enum FenceGroups {
        private static let homes = ControlGroup.containing(controller: "memory").map { $0.folders[0] }

        /// Asked of the system, not of the code that is tested.
        static let canBeMade = homes.contains { home in
            let isDelegated =
                FileManager.default.fileExists(atPath: "\(home)/memory.limit_in_bytes")
                || (try? String(contentsOfFile: "\(home)/cgroup.subtree_control", encoding: .utf8))?.contains("memory")
                    == true
            let folder = "\(home)/lathe-test-\(getpid())"
            guard isDelegated, mkdir(folder, 0o755) == 0 else { return false }
            rmdir(folder)
            return true
        }

        static func folder(ofKeeper process: Int) -> String {
            let folders = homes.map { "\($0)/lathe-fence-\(process)" }
            return folders.first { FileManager.default.fileExists(atPath: $0) } ?? folders[0]
        }

        static func members(_ folder: String) -> [Int] {
            let text =
                homes.lazy.compactMap { home in
                    try? String(
                        contentsOfFile: "\(home)/\((folder as NSString).lastPathComponent)/cgroup.procs",
                        encoding: .utf8)
                }.first ?? ""
            return text.split(separator: "\n").compactMap { Int($0) }
        }

        static func maps(_ process: Int, _ name: String) -> Bool {
            (try? String(contentsOfFile: "/proc/\(process)/maps", encoding: .utf8))?.contains(name) == true
        }

        /// Groups whose keepers are gone.
        static var left: [String] {
            homes.flatMap { home in
                ((try? FileManager.default.contentsOfDirectory(atPath: home)) ?? []).filter { name in
                    name.hasPrefix("lathe-fence-") && Int32(name.dropFirst(12)).map { kill($0, 0) != 0 } != false
                }
            }
        }
    }
#endif
