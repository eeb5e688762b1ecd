#if os(Linux)
    import LatheFormat
    import Testing

    /// What `lathe profile` says of other commands.
    @Suite struct ProfileTests {
        @Test func generation() async throws {
            let folder = try Folder()
            let model = try await Fixtures.novelistFile.path
            let outcome = try await CommandLineTool.run(
                "profile", "--json", "--plot", folder.path("memory.svg"), "--", "generate", "--model", model, "-n",
                "100",
                "--memory-budget", "200MB", "Once")
            let profile = try outcome.json()
            #expect(outcome.errors.contains("tokens/s"), "what the command says goes to stderr")
            #expect(try profile.int("exit_code", in: "profile") == 0)
            #expect(try profile.int("budget_bytes", in: "profile") == 200_000_000)
            #expect(profile.valueIfPresent("fence") == nil)
            let phases = try profile.array("phases", in: "profile").map { try $0.object(at: "phase") }
            #expect(
                try phases.map { try $0.string("name", in: "phase") } == [
                    "start", "load", "prefill", "decode", "idle", "whole",
                ])
            let decode = phases[3]
            // The model is mapped, and all of it is read for each token.
            #expect(try decode.int("peak_file_bytes", in: "phase") > 14_000_000)
            #expect(try decode.int("peak_anonymous_bytes", in: "phase") > 1_000_000)
            #expect(try decode.number("duration_seconds") > 0)
            let peak = try profile.int("peak_resident_bytes", in: "profile")
            #expect(peak > 15_000_000 && peak < 200_000_000)
            let svg = String(decoding: try folder.bytes("memory.svg"), as: UTF8.self)
            #expect(svg.hasPrefix("<svg ") && svg.contains("decode") && svg.contains("budget 200.0 MB"))
        }

        @Test func conversion() async throws {
            let folder = try Folder()
            let outcome = try await CommandLineTool.run(
                "profile", "--", "quantize", Fixtures.novelist, "-o", folder.path("x.lathe"))
            #expect(outcome.status == 0, "\(outcome.errors)")
            for phase in ["read", "weights", "sync", "whole", "peak resident "] {
                #expect(outcome.text.contains("\n\(phase)"), "\(outcome.text)")
            }
            #expect(try folder.bytes("x.lathe") == Fixtures.bytes(try await Fixtures.novelistFile.path))
        }

        @Test func whatIsFencedIsSeenInside() async throws {
            let outcome = try await CommandLineTool.run(
                "profile", "--json", "--", "score", "--model", try await Fixtures.novelistFile.path, "--ids", "1,2,3",
                "--memory-budget", "200MB", "--fence")
            let profile = try outcome.json()
            let fence = try profile.object("fence", in: "profile")
            #expect(try fence.int("peak_bytes", in: "fence") > 0)
            let phases = try profile.array("phases", in: "profile").map { try $0.object(at: "phase") }
            #expect(try phases.contains { try $0.string("name", in: "phase") == "load" }, "the keeper has no phases")
        }

        @Test func endsAsTheCommandEnds() async throws {
            let failed = try await CommandLineTool.run("profile", "--", "generate", "--model", "/nowhere", "x")
            #expect(failed.status == 1 && failed.errors.contains("/nowhere"))
            let usage = try await CommandLineTool.run("profile", "--", "generate", "--nope")
            #expect(usage.status == 64)
            let budget = try await CommandLineTool.run(
                "profile", "--", "score", "--ids", "1", "--fence", "--memory-budget", "1MB")
            #expect(budget.status == 2)
        }

        @Test(arguments: [
            ["profile"], ["profile", "--"], ["profile", "--interval", "0", "--", "inspect"],
            ["profile", "--", "profile", "--", "inspect"],
        ])
        func usage(arguments: [String]) async throws {
            let outcome = try await CommandLineTool.start(arguments).outcome()
            #expect(outcome.status == 64 && outcome.output.isEmpty && outcome.errors.hasPrefix("Error: "))
        }

        @Test func interruptionIsPassedOn() async throws {
            let run = try CommandLineTool.start([
                "profile", "--", "bench", "--model", try await Fixtures.tinyFile.path, "--prompt-tokens", "8",
                "--new-tokens", "40", "--runs", "1000000", "--threads", "1",
            ])
            try await Task.sleep(for: .milliseconds(700))
            run.process.interrupt()
            let outcome = try await run.outcome()
            #expect(outcome.status == 130 && !outcome.isSignal)
            #expect(outcome.text.contains("whole"), "what was seen until then is told")
        }
    }
#endif
