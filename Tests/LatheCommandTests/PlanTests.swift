import Foundation
import LatheFormat
import Testing

/// `lathe plan`, and commands that keep to a budget.
@Suite struct PlanTests {
    private func plan(_ arguments: String...) async throws -> JSONObject {
        let outcome = try await CommandLineTool.run(["plan", "--json"] + arguments)
        #expect(outcome.status == 0 || outcome.status == 2, "\(outcome.errors)")
        let object = try JSON.parse(outcome.output, source: "stdout").object(at: "stdout")
        #expect(try object.bool("fits", in: "plan") == (outcome.status == 0))
        return object
    }

    @Test func keysAndSum() async throws {
        let plan = try await plan("--model", try await Fixtures.novelistFile.path, "--memory-budget", "700MB")
        #expect(
            plan.keys.starts(with: ["fits", "budget_bytes", "budget_source", "total_bytes", "categories"]),
            "\(plan.keys)")
        #expect(plan.keys.contains("suggestions") && plan.keys.contains("maximum_sessions"))
        #expect(try plan.int("budget_bytes", in: "plan") == 700_000_000)
        let categories = try plan.object("categories", in: "plan")
        #expect(categories.keys == ["weights", "kv_cache", "activations", "tokenizer", "windows", "server", "runtime"])
        var sum = 0
        for key in categories.keys { sum += try categories.int(key, in: "categories") }
        #expect(try plan.int("total_bytes", in: "plan") == sum)
        // Six layers, 384 wide, 512 tokens, keys and values of two bytes.
        #expect(try categories.int("kv_cache", in: "categories") == 6 * 384 * 512 * 2 * 2)
    }

    /// The folder's plan is the plan of the file that becomes of it.
    @Test func folderIsPlannedAsItWillBe() async throws {
        let file = try await plan("--model", try await Fixtures.novelistFile.path)
        let folder = try await plan("--model", Fixtures.novelist)
        #expect(file["categories"] == folder["categories"])
    }

    @Test func suggestionsRunAsPrinted() async throws {
        let model = try await Fixtures.novelistFile.path
        var count = 0
        let programs = [
            ["45MB"], ["50MB"], ["60MB"], ["70MB"], ["140MB", "--serve"], ["90MB", "--serve", "--max-body", "2MB"],
        ]
        for options in programs {
            let refused = try await CommandLineTool.run(
                ["plan", "--model", model, "--sessions", "8", "--json", "--memory-budget"] + options)
            #expect(refused.status == 2)
            #expect(refused.errors.hasPrefix("lathe: ") && refused.errors.contains("budget"), "\(refused.errors)")
            let object = try JSON.parse(refused.output, source: "stdout").object(at: "stdout")
            for item in try object.array("suggestions", in: "plan") {
                let suggestion = try item.object(at: "suggestion")
                let arguments = try suggestion.array("arguments", in: "suggestion").map {
                    try $0.string(at: "argument")
                }
                let outcome = try await CommandLineTool.run(arguments + ["--json"])
                #expect(outcome.status == 0, "\(arguments): \(outcome.errors)")
                let planned = try outcome.json()
                #expect(
                    try planned.int("total_bytes", in: "plan") == suggestion.int("total_bytes", in: "suggestion"),
                    "\(arguments)")
                count += 1
            }
        }
        #expect(count >= 7)
    }

    /// A server's plan has its connections and its own program in it, and as many sessions as fit where nothing is said.
    @Test func serversTakeMore() async throws {
        let model = try await Fixtures.novelistFile.path
        let alone = try await plan("--model", model, "--sessions", "16")
        let served = try await plan("--model", model, "--serve")
        #expect(try served.int("sessions", in: "plan") == 16)
        let extra = try served.int("total_bytes", in: "plan") - alone.int("total_bytes", in: "plan")
        // 16 MB of program, 1024 connections of 50 kB, eight bodies of 1 MB.
        #expect(extra == 16_000_000 + 1024 * 50_000 + 8_000_000)
        let small = try await plan("--model", model, "--serve", "--max-connections", "10", "--max-body", "64KiB")
        let less = try served.int("total_bytes", in: "plan") - small.int("total_bytes", in: "plan")
        #expect(less == 1014 * 50_000 + 8 * (1_000_000 - 65_536))
        let tight = try await plan("--model", model, "--serve", "--memory-budget", "130MB")
        #expect(try tight.bool("fits", in: "plan") && tight.int("sessions", in: "plan") < 16)
        let none = try await CommandLineTool.run("plan", "--model", model, "--serve", "--memory-budget", "80MB")
        #expect(none.status == 2 && none.text.contains("missing"), "\(none.errors)")
        #expect(try await CommandLineTool.run("plan", "--model", model, "--max-connections", "5").status == 64)
        #expect(
            try await CommandLineTool.run("plan", "--model", model, "--serve", "--max-connections", "0").status == 64)
    }

    @Test(arguments: ["700MB", "668MiB", "0.7G", "0.7GB", "700000000", "700 MB", "684000KiB"])
    func sizesAsPeopleWriteThem(size: String) async throws {
        let plan = try await plan("--model", Fixtures.tiny, "--memory-budget", size)
        #expect(abs(try plan.int("budget_bytes", in: "plan") - 700_000_000) < 1_000_000)
    }

    @Test(arguments: ["", "MB", "-700MB", "7e2MB", "700QB", "nan", "0", "700MB700"])
    func sizesThatAreNone(size: String) async throws {
        let outcome = try await CommandLineTool.run("plan", "--model", Fixtures.tiny, "--memory-budget=\(size)")
        #expect(outcome.status == 64, "\(outcome.status) \(outcome.errors)")
    }

    @Test(arguments: [
        ["generate", "-n", "4", "Once"], ["bench", "--prompt-tokens", "4", "--new-tokens", "4", "--runs", "1"],
        ["score", "--text", "Once"],
        ["evaluate", "--text", "\(Fixtures.package)/Tests/Golden/novelist/heldout.txt", "--window", "512"],
    ])
    func budgetIsRefusedBeforeAnythingIsLoaded(command: [String]) async throws {
        let model = try await Fixtures.novelistFile.path
        let refused = try await CommandLineTool.run(command + ["--model", model, "--memory-budget", "20MB"])
        #expect(refused.status == 2 && refused.output.isEmpty, "\(refused.errors)")
        #expect(refused.errors.contains("20000000"), "\(refused.errors)")
        // From the header alone: a file that is damaged behind it is refused for its size just so.
        let folder = try Folder()
        var bytes = try Fixtures.bytes(model)
        bytes[bytes.count - 1] ^= 1
        let damaged = try folder.write(bytes, to: "damaged.lathe")
        let again = try await CommandLineTool.run(command + ["--model", damaged, "--memory-budget", "20MB"])
        #expect(again.status == 2)
    }

    @Test func budgetThatHoldsChangesNothing() async throws {
        let model = try await Fixtures.novelistFile.path
        let arguments = ["generate", "--model", model, "-n", "12", "--json", "It was a dark"]
        let free = try await CommandLineTool.run(arguments).json()
        for options in [["--memory-budget", "60MB"], ["--weights-in", "copy"], ["--weights-in", "populate"]] {
            #expect(try await CommandLineTool.run(arguments + options).json()["ids"] == free["ids"], "\(options)")
        }
    }

    /// A context shorter than the model's takes less, and is kept.
    @Test func contextIsKept() async throws {
        let model = try await Fixtures.novelistFile.path
        let small = try await plan("--model", model, "--context", "64")
        let large = try await plan("--model", model)
        #expect(try small.int("total_bytes", in: "") < large.int("total_bytes", in: ""))
        let outcome = try await CommandLineTool.run(
            "generate", "--model", model, "--context", "16", "-n", "20", "It was a dark")
        outcome.expectFailure("16")
    }

    /// What was planned against what the kernel saw, with every byte of cache and arena written: within 5 % or 4 MB.
    @Test(arguments: ["int8", "int4", "f32"], ["map", "copy"])
    func measuredPeakIsAsPlanned(weights: String, placement: String) async throws {
        let folder = try Folder()
        let model = folder.path("model.lathe")
        let quantized = try await CommandLineTool.run(
            "quantize", Fixtures.novelist, "-o", model, "--weights", weights)
        try #require(quantized.status == 0, "\(quantized.errors)")
        let planned = try await plan("--model", model, "--threads", "2", "--weights-in", placement).int(
            "total_bytes", in: "plan")
        let measured = try await CommandLineTool.run(
            "bench", "--model", model, "--prompt-tokens", "500", "--new-tokens", "12", "--runs", "1", "--threads", "2",
            "--weights-in", placement, "--json"
        ).json().int("peak_resident_bytes", in: "bench")
        #expect(abs(planned - measured) <= max(4_000_000, planned / 20), "\(planned) planned, \(measured) measured")
    }
}
