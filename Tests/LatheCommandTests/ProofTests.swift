#if os(Linux)
    import Foundation
    import LatheFormat
    import Testing

    /// What `make proof` shows of models that need gigabytes, kept alive on distilgpt2's shape: random weights of 328 MB,
    /// converted and run in a few dozens of megabytes that the kernel keeps.
    @Suite(.serialized) struct ProofTests {
        private struct Model {
            let folder: Folder
            let checkpoint: String

            init() async throws {
                folder = try Folder()
                checkpoint = folder.path("distilgpt2")
                let outcome = try await CommandLineTool.run(
                    "synthesize", "distilgpt2", "--dtype", "f32", "-o", checkpoint)
                try #require(outcome.status == 0, "\(outcome.errors)")
            }

            func file(_ weights: String, _ options: String...) async throws -> (path: String, errors: String) {
                let path = folder.path("\(weights).lathe")
                let outcome = try await CommandLineTool.start(
                    ["quantize", checkpoint, "-o", path, "--weights", weights] + options
                ).outcome()
                try #require(outcome.status == 0 && !outcome.isSignal, "\(outcome.errors)")
                return (path, outcome.errors)
            }
        }

        /// A quarter of the checkpoint's size is enough to convert it, half of what its embedding alone takes in float32;
        /// twice the file's to run it. Nothing in it was ever paged out and in again.
        @Test(.enabled(if: FenceGroups.canBeMade, "no control group can be made here"))
        func convertedAndRunInsideAFence() async throws {
            let model = try await Model()
            let (file, errors) = try await model.file("int4", "--memory-budget", "80MB", "--fence")
            let conversion = try #require(FenceReport(errors), "\(errors)")
            #expect(conversion.limit == 80 && conversion.peak < 80, "\(errors)")
            #expect(errors.contains(" 0 times at the limit"), "\(errors)")

            let outcome = try await CommandLineTool.run(
                "bench", "--model", file, "--prompt-tokens", "32", "--new-tokens", "32", "--runs", "1", "--threads",
                "1",
                "--json", "--memory-budget", "120MB", "--fence")
            let report = try outcome.json()
            let run = try #require(FenceReport(outcome.errors), "\(outcome.errors)")
            #expect(run.peak > 64.6 && run.peak < 120, "\(outcome.errors)")
            #expect(outcome.errors.contains(" 0 times at the limit"), "\(outcome.errors)")
            for result in try report.array("results", in: "bench") {
                #expect(try result.object(at: "result").int("major_page_faults", in: "result") == 0)
            }
        }

        /// Without a fence, and every byte of cache and arena written: the plan is within 5 % or 4 MB, whichever is more.
        @Test(arguments: ["int8", "int4"])
        func planIsWhatIsMeasured(weights: String) async throws {
            let model = try await Model()
            let (file, _) = try await model.file(weights)
            let plan = try await CommandLineTool.run("plan", "--model", file, "--threads", "1", "--json").json()
            let planned = try plan.int("total_bytes", in: "plan")
            let measured = try await CommandLineTool.run(
                "bench", "--model", file, "--prompt-tokens", "1000", "--new-tokens", "8", "--runs", "1", "--threads",
                "1", "--json"
            ).json().int("peak_resident_bytes", in: "bench")
            #expect(abs(planned - measured) <= max(4_000_000, planned / 20), "\(planned) planned, \(measured) measured")
        }
    }
#endif
