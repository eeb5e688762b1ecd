import Foundation
import LatheCompiler
import LatheFormat
import Testing

@testable import LatheWorkbench

@Suite struct SweepRecipesTests {
    private func recipes(_ json: String) throws -> [SweepRecipe] {
        try SweepRecipes(json: try JSON.parse(Array(json.utf8), source: "r.json"), source: "r.json").recipes
    }

    @Test func listsMultiply() throws {
        let recipes = try recipes(
            #"{"recipes":[{"weights":["int8","int4"],"group_size":[32,64],"prune":{"sparsity":[0,0.5]}}]}"#)
        // The group size means nothing for int8, so it makes no recipe of its own.
        #expect(
            recipes.map(\.name) == [
                "int8", "int8 magnitude 50 %", "int4 g32", "int4 g32 magnitude 50 %", "int4 g64",
                "int4 g64 magnitude 50 %",
            ])
        #expect(recipes[1].pruning?.sparsity == 0.5 && recipes[0].pruning == nil)
        #expect(recipes[2].recipe.groupSize == 32)
    }

    @Test func namesAreKept() throws {
        let recipes = try recipes(
            #"[{"name":"mine","weights":"int8","overrides":[{"pattern":"c_proj","format":"int4:g32"}]},"#
                + #"{"name":"two","weights":["int8","f32"]}]"#)
        #expect(recipes.map(\.name) == ["mine", "two: int8", "two: f32"])
        #expect(recipes[0].recipe.overrides.count == 1)
    }

    /// Dense and sparse storage of the same weights is one weight set.
    @Test func storageIsNoQuality() throws {
        let recipes = try recipes(#"[{"weights":"int8","sparse":["on","off"],"prune":{"pattern":"2:4"}}]"#)
        #expect(recipes.count == 2 && recipes[0].json() != recipes[1].json())
        #expect(recipes[0].json(storage: false) == recipes[1].json(storage: false))
    }

    @Test(arguments: [
        ("[]", "no recipe"), ("3", "array"), (#"[{"weight":"int8"}]"#, "weight"), (#"[{"weights":"int3"}]"#, "int3"),
        (#"[{"prune":{"sparsity":1}}]"#, "below 1"), (#"[{"prune":{"criterion":"size"}}]"#, "magnitude"),
        (#"[{"prune":{}}]"#, "sparsity"), (#"[{"prune":{"amount":0.5}}]"#, "amount"), (#"{"list":[]}"#, "list"),
        (#"[{"weights":"int8"},{"group_size":48}]"#, "48"),
    ])
    func refusals(json: String, word: String) throws {
        let error = #expect(throws: LatheError.self) { try recipes(json) }
        #expect(error?.message.contains(word) == true, "\(error?.message ?? "")")
    }

    @Test(arguments: [false, true])
    func standardLists(calibrated: Bool) throws {
        for list in [
            try SweepRecipes.standard(calibrated: calibrated), try SweepRecipes.candidates(calibrated: calibrated),
        ] {
            #expect(list.recipes.contains(where: \.needsCalibration) == calibrated)
            #expect(Set(list.recipes.map(\.name)).count == list.recipes.count)
        }
    }
}

@Suite struct SweepTablesTests {
    private func result(_ name: String, bytes: Int, divergence: Double) throws -> SweepResult {
        let json = """
            {"name":\(JSON.string(name).serialized()),"recipe":{"weights":"int8"},"file_bytes":\(bytes),"sparsity":0.5,
            "speed":{"peak_resident_bytes":50,"results":[
            {"phase":"prefill","threads":2,"tokens_per_second":{"median":100.0,"max":110.0},"bytes_per_token":10.0,
            "probe_bytes_per_second":2000.0},
            {"phase":"decode","threads":2,"tokens_per_second":{"median":50.0,"max":60.0},"bytes_per_token":20.0,
            "probe_bytes_per_second":2000.0}]},
            "quality":{"perplexity":11.0,"standard_error":0.5,"tokens":9,"bits_per_byte":1.5,"reference":
            {"perplexity":10.0,"mean_kl":\(divergence),"top1_agreement":0.9,"rms_probability_difference":0.1,
            "increase_error":0.01}}}
            """
        return try SweepResult(
            json: try JSON.parse(Array(json.utf8), source: "r").object(at: "r"), source: "r")
    }

    @Test func figures() throws {
        let results = [try result("a|b, \"c\"", bytes: 1000, divergence: 0.1)]
        let tables = SweepTables(results, failures: [("d", "It\nfailed.")])
        let row = try #require(tables.markdown.split(separator: "\n").first { $0.contains("a\\|b") })
        for cell in [
            "1.0 kB", "50.0 %", "50 B", "100", "50.0", "0.50", "11.000 ± 0.500", "+10.00 %", "1.00e-1", "90.00 %",
        ] {
            #expect(row.contains("| \(cell) |"), "\(cell) in \(row)")
        }
        #expect(tables.markdown.contains("d failed: It failed."))
        let lines = tables.csv.split(separator: "\n")
        #expect(lines.count == 2 && lines[1].hasPrefix("\"a|b, \"\"c\"\"\",1000,0.5,50,100.0,50.0,20.0,2000.0,11.0,"))
        // Written and read again.
        let again = try SweepResult(json: try results[0].json.object(at: "r"), source: "r")
        #expect(again.json == results[0].json)
    }

    /// Labels stand at the points of the front alone; every point has its mark and title.
    @Test func plot() throws {
        let results = [
            try result("small", bytes: 1_000_000, divergence: 0.5),
            try result("<beaten>", bytes: 3_000_000, divergence: 0.4),
            try result("middle", bytes: 2_000_000, divergence: 0.01),
            try result("exact", bytes: 9_000_000, divergence: 0),
        ]
        let svg = ParetoPlot(results).svg
        let front = svg.components(separatedBy: "Quality against speed")[0]
        for name in ["small", "middle", "exact"] { #expect(front.contains(">\(name)</text>"), "\(name)") }
        #expect(!svg.contains("&lt;beaten&gt;</text>") && !svg.contains("<beaten>"))
        #expect(svg.components(separatedBy: "&lt;beaten&gt;, ").count == 3, "a title in each panel")
        #expect(!svg.contains("nan") && !svg.contains("inf"))
    }
}
