#if os(Linux)
    import Foundation
    import LatheFormat
    import Testing

    @testable import LatheCommand

    /// Hard limits of the system's, as a user meets them.
    @Suite(.serialized) struct FenceTests {
        /// What no run on these models needs more of.
        private let wide = ["--memory-budget", "200MB", "--fence"]

        @Test(.enabled(if: FenceGroups.canBeMade, "no control group can be made here"))
        func withinTheFence() async throws {
            let model = try await Fixtures.novelistFile.path
            let arguments = ["generate", "--model", model, "-n", "8", "--json", "--temperature", "0", "Once"]
            let free = try await CommandLineTool.start(arguments).outcome()
            let fenced = try await CommandLineTool.start(arguments + wide).outcome()
            #expect(try fenced.json().ints("ids") == free.json().ints("ids"))
            let report = try #require(FenceReport(fenced.errors))
            #expect(report.means.hasPrefix("cgroup v") && report.limit == 200)
            #expect(report.peak > 1 && report.peak < 100, "\(fenced.errors)")
            #expect(fenced.errors.contains(" 0 times at the limit"))
            #expect(FenceGroups.left == [])
        }

        @Test(.enabled(if: FenceGroups.canBeMade, "no control group can be made here"))
        func conversionWithinTheFence() async throws {
            let folder = try Folder()
            let outcome = try await CommandLineTool.run(
                "quantize", Fixtures.novelist, "-o", folder.path("x.lathe"), "--json", "--memory-budget", "150MB",
                "--fence")
            _ = try outcome.json()
            #expect(try #require(FenceReport(outcome.errors)).peak < 150)
            #expect(try folder.bytes("x.lathe") == Fixtures.bytes(try await Fixtures.novelistFile.path))
        }

        @Test(.enabled(if: FenceGroups.canBeMade, "no control group can be made here"))
        func beyondTheFence() async throws {
            // No plan knows how long the prompt on standard input is.
            let outcome = try await CommandLineTool.start(
                [
                    "generate", "--model", try await Fixtures.novelistFile.path, "--memory-budget", "60MB", "--fence",
                ],
                input: [UInt8](repeating: UInt8(ascii: " "), count: 120_000_000)
            ).outcome()
            #expect(outcome.status == 1 && !outcome.isSignal && outcome.output.isEmpty)
            #expect(outcome.errors.hasSuffix("lathe: The system ended it: it needed more than its fence of 60.0 MB.\n"))
            #expect(try #require(FenceReport(outcome.errors)).limit == 60)
            #expect(FenceGroups.left == [])
        }

        @Test(arguments: ["auto", "rlimit"])
        func errorsPassTheFence(means: String) async throws {
            let model = try await Fixtures.tinyFile.path
            let failed = try await CommandLineTool.start(
                ["score", "--ids", "5000", "--model", model, "--fence-by", means] + wide
            ).outcome()
            #expect(failed.status == 1 && !failed.isSignal && failed.output.isEmpty)
            #expect(failed.errors.contains("lathe: ") && failed.errors.contains("5000"))
            #expect(FenceReport(failed.errors) != nil)
        }

        @Test func limitOfTheProcess() async throws {
            let model = try await Fixtures.novelistFile.path
            let arguments = ["--model", model, "--fence-by", "rlimit"]
            let within = try await CommandLineTool.start(
                ["generate", "-n", "8", "--json", "Once"] + arguments + wide
            ).outcome()
            _ = try within.json()
            let report = try #require(FenceReport(within.errors))
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

        @Test(.enabled(if: FenceGroups.canBeMade, "no control group can be made here"))
        func interruptedFencesVanish() async throws {
            let run = try await startLongRun()
            run.process.interrupt()
            let outcome = try await run.outcome()
            #expect(outcome.status == 130 && !outcome.isSignal)
            #expect(FenceReport(outcome.errors) != nil)
            #expect(FenceGroups.left == [])
        }

        @Test(.enabled(if: FenceGroups.canBeMade, "no control group can be made here"))
        func killedKeepersLeaveNobody() async throws {
            let run = try await startLongRun()
            let group = FenceGroups.folder(ofKeeper: Int(run.process.processIdentifier))
            kill(run.process.processIdentifier, SIGKILL)
            _ = try await run.outcome()
            for _ in 0..<400 where !FenceGroups.members(group).isEmpty { try await Task.sleep(for: .milliseconds(5)) }
            #expect(FenceGroups.members(group) == [])
            // The next fence clears away what is left.
            let next = try await CommandLineTool.start(
                ["score", "--ids", "5", "--model", try await Fixtures.tinyFile.path] + wide
            ).outcome()
            #expect(next.status == 0)
            #expect(FenceGroups.left == [])
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
            let group = FenceGroups.folder(ofKeeper: keeper)
            for _ in 0..<4000 where run.process.isRunning {
                let members = FenceGroups.members(group)
                if let inside = members.first(where: { $0 != keeper }), members.count == 1,
                    FenceGroups.maps(inside, "model.lathe")
                {
                    break
                }
                try await Task.sleep(for: .milliseconds(5))
            }
            try #require(run.process.isRunning, "\(run.errorsSoFar)")
            return run
        }
    }
#endif
