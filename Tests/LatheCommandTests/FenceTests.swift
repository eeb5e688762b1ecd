#if os(Linux)
    import Foundation
    import LatheFormat
    import Testing

    @testable import LatheCommand

    /// Hard limits of the system's, as a user meets them.
    @Suite(.serialized) struct FenceTests {
        /// What no run on these models needs more of.
        private let wide = ["--memory-budget", "200MB", "--fence"]

        @Test(.enabled(if: Groups.canBeMade, "no control group can be made here"))
        func withinTheFence() async throws {
            let model = try await Fixtures.novelistFile.path
            let arguments = ["generate", "--model", model, "-n", "8", "--json", "--temperature", "0", "Once"]
            let free = try await CommandLineTool.start(arguments).outcome()
            let fenced = try await CommandLineTool.start(arguments + wide).outcome()
            #expect(try fenced.json().ints("ids") == free.json().ints("ids"))
            let report = try #require(Report(fenced.errors))
            #expect(report.means.hasPrefix("cgroup v") && report.limit == 200)
            #expect(report.peak > 1 && report.peak < 100, "\(fenced.errors)")
            #expect(fenced.errors.contains(" 0 times at the limit"))
            #expect(Groups.left == [])
        }

        @Test(.enabled(if: Groups.canBeMade, "no control group can be made here"))
        func conversionWithinTheFence() async throws {
            let folder = try Folder()
            let outcome = try await CommandLineTool.run(
                "quantize", Fixtures.novelist, "-o", folder.path("x.lathe"), "--json", "--memory-budget", "150MB",
                "--fence")
            _ = try outcome.json()
            #expect(try #require(Report(outcome.errors)).peak < 150)
            #expect(try folder.bytes("x.lathe") == Fixtures.bytes(try await Fixtures.novelistFile.path))
        }

        @Test(.enabled(if: Groups.canBeMade, "no control group can be made here"))
        func beyondTheFence() async throws {
            // 56 MB of float32 weights in a file in memory, which nothing can give back.
            let outcome = try await CommandLineTool.run(
                "generate", "--model", Fixtures.novelist, "--weights", "f32", "--memory-budget", "40MB", "--fence",
                "Once")
            #expect(outcome.status == 1 && !outcome.isSignal && outcome.output.isEmpty)
            #expect(outcome.errors.hasSuffix("lathe: The system ended it: it needed more than its fence of 40.0 MB.\n"))
            #expect(try #require(Report(outcome.errors)).limit == 40)
            #expect(Groups.left == [])
        }

        @Test(arguments: ["auto", "rlimit"])
        func errorsPassTheFence(means: String) async throws {
            let model = try await Fixtures.tinyFile.path
            let failed = try await CommandLineTool.start(
                ["score", "--ids", "5000", "--model", model, "--fence-by", means] + wide
            ).outcome()
            #expect(failed.status == 1 && !failed.isSignal && failed.output.isEmpty)
            #expect(failed.errors.contains("lathe: ") && failed.errors.contains("5000"))
            #expect(Report(failed.errors) != nil)
        }

        @Test func limitOfTheProcess() async throws {
            let model = try await Fixtures.novelistFile.path
            let arguments = ["--model", model, "--fence-by", "rlimit"]
            let within = try await CommandLineTool.start(
                ["generate", "-n", "8", "--json", "Once"] + arguments + wide
            ).outcome()
            _ = try within.json()
            let report = try #require(Report(within.errors))
            // The file is mapped, and no data.
            #expect(report.means == "RLIMIT_DATA" && report.limit == 184.7, "\(within.errors)")
            #expect(within.errors.contains("less 15.3 MB of mapped files"))

            // The narrowest that is granted: threads must find room.
            let narrow = try await CommandLineTool.start(
                ["generate", "-n", "8", "--json", "Once", "--fence", "--memory-budget", "48MB"] + arguments
            ).outcome()
            _ = try narrow.json()

            // Caches for 200 sessions: 940 MB that are asked for at once.
            let beyond = try await CommandLineTool.start(
                ["bench", "--batch", "200", "--runs", "1"] + arguments + wide
            ).outcome()
            #expect(beyond.status == 1 || beyond.status == 2)
            #expect(!beyond.isSignal && beyond.output.isEmpty)
            #expect(beyond.errors.contains("lathe: "), "\(beyond.errors)")
        }

        @Test func tooNarrowFencesAreRefused() async throws {
            let model = try await Fixtures.novelistFile.path
            for (means, budget) in [("auto", "3MB"), ("rlimit", "20MB")] {
                let outcome = try await CommandLineTool.run(
                    "generate", "--model", model, "Once", "--fence", "--fence-by", means, "--memory-budget", budget)
                #expect(outcome.status == 2 && outcome.output.isEmpty)
                #expect(outcome.errors.hasPrefix("lathe: A fence of "), "\(outcome.errors)")
            }
        }

        @Test func childrenAreNotMistaken() async throws {
            // Neither a keeper nor a profiler has started it.
            let model = try await Fixtures.tinyFile.path
            let outcome = try await CommandLineTool.run(
                "score", "--ids", "5", "--model", model, "--json",
                environment: ["LATHE_FENCE": "data:1", "LATHE_PHASES": "99"])
            _ = try outcome.json()
            #expect(outcome.errors.isEmpty)
        }

        @Test(.enabled(if: Groups.canBeMade, "no control group can be made here"))
        func interruptedFencesVanish() async throws {
            let run = try await startLongRun()
            run.process.interrupt()
            let outcome = try await run.outcome()
            #expect(outcome.status == 130 && !outcome.isSignal)
            #expect(Report(outcome.errors) != nil)
            #expect(Groups.left == [])
        }

        @Test(.enabled(if: Groups.canBeMade, "no control group can be made here"))
        func killedKeepersLeaveNobody() async throws {
            let run = try await startLongRun()
            let group = Groups.folder(ofKeeper: Int(run.process.processIdentifier))
            kill(run.process.processIdentifier, SIGKILL)
            _ = try await run.outcome()
            for _ in 0..<400 where !Groups.members(group).isEmpty { try await Task.sleep(for: .milliseconds(5)) }
            #expect(Groups.members(group) == [])
            // The next fence clears away what is left.
            let next = try await CommandLineTool.start(
                ["score", "--ids", "5", "--model", try await Fixtures.tinyFile.path] + wide
            ).outcome()
            #expect(next.status == 0)
            #expect(Groups.left == [])
        }

        /// A fenced run that would last for hours, as soon as somebody is inside.
        private func startLongRun() async throws -> CommandLineTool.Running {
            let model = try await Fixtures.tinyFile.path
            let run = try CommandLineTool.start(
                [
                    "bench", "--model", model, "--prompt-tokens", "8", "--new-tokens", "40", "--runs", "1000000",
                    "--threads", "1",
                ] + wide)
            let keeper = Int(run.process.processIdentifier)
            let group = Groups.folder(ofKeeper: keeper)
            for _ in 0..<4000 where run.process.isRunning {
                let members = Groups.members(group)
                if let inside = members.first(where: { $0 != keeper }), members.count == 1,
                    Groups.maps(inside, "model.lathe")
                {
                    break
                }
                try await Task.sleep(for: .milliseconds(5))
            }
            try #require(run.process.isRunning, "\(run.errorsSoFar)")
            return run
        }
    }

    /// `fence: cgroup v1, limit 200.0 MB, peak 12.3 MB, 0 times at the limit`
    private struct Report {
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
    private enum Groups {
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
