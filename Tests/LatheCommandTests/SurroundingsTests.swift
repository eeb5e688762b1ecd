#if os(Linux)
    import Foundation
    import LatheFormat
    import Testing
    import TestSupport

    /// The command where the world is not as usual (FAULTS 41, 42).
    @Suite struct SurroundingsTests {
        /// Half a processor, one, two: as many threads as it has whole ones, but one at least.
        @Test(
            .enabled(if: LimitedGroup.canBeMade("cpu"), "no processor quota can be set here"),
            arguments: [(0.5, 1), (1, 1), (1.9, 1), (2, 2)])
        func threadsFollowTheQuota(processors: Double, threads: Int) async throws {
            let group = try LimitedGroup(controller: "cpu", limits: LimitedGroup.processors(processors))
            let arguments = [
                "bench", "--model", try await Fixtures.tinyFile.path, "--prompt-tokens", "4", "--new-tokens", "4",
                "--runs", "1",
                "--json",
            ]
            func threadsChosen(_ outcome: CommandLineTool.Outcome) throws -> Int {
                let results = try outcome.json().array("results", in: "bench")
                return try #require(results.first).object(at: "result").int("threads", in: "result")
            }
            // Affinity and cores may allow fewer.
            let unlimited = try threadsChosen(try await CommandLineTool.run(arguments))
            let limited = try threadsChosen(try await CommandLineTool.run(arguments, preparation: group.entry))
            #expect(limited == min(threads, unlimited))
        }

        @Test(.enabled(if: ChangedSurroundings.canUnshareMounts, "no mount namespace can be made here"))
        func aReadOnlySystemIsEnoughToRead() async throws {
            let arguments = ["generate", "--model", try await Fixtures.novelistFile.path, "-n", "8", "--json", "Once"]
            let free = try await CommandLineTool.run(arguments).json()
            let bound = try await CommandLineTool.run(arguments, preparation: ChangedSurroundings.readOnly).json()
            #expect(try bound.ints("ids") == free.ints("ids"))
            let folder = try Folder()
            try await CommandLineTool.run(
                "quantize", Fixtures.tiny, "-o", folder.path("x.lathe"), preparation: ChangedSurroundings.readOnly
            ).expectFailure("x.lathe", "Read-only file system")
        }

        @Test(.enabled(if: ChangedSurroundings.canUnshareMounts, "no mount namespace can be made here"))
        func withoutProcItSaysSo() async throws {
            try await CommandLineTool.run("tokenize", "Once", preparation: ChangedSurroundings.withoutProc)
                .expectFailure("/proc is not mounted")
        }
    }
#endif
