import LatheFormat
import Testing

@testable import LatheWorkbench

@Suite struct ProfileTests {
    private static let rollup = """
        561c27100000-7ffd24f26000 ---p 00000000 00:00 0                          [rollup]
        Rss:                1768 kB
        Pss:                 365 kB
        Anonymous:           116 kB
        AnonHugePages:         0 kB
        Swap:                 12 kB
        SwapPss:               0 kB
        """

    @Test func samples() throws {
        let sample = try #require(
            MemorySample(
                rollup: Self.rollup, status: "Name:\tlathe\nVmPeak:\t 9000 kB\nVmHWM:\t    2000 kB\n",
                statistics: "12 (a ) name) S 1 2 3 4 5 6 7 8 99 10 11"))
        #expect(sample.resident == 1768 * 1024 && sample.anonymous == 116 * 1024)
        #expect(sample.file == (1768 - 116) * 1024 && sample.swap == 12 * 1024)
        #expect(sample.peakResident == 2000 * 1024)
        #expect(sample.majorFaults == 99)
        #expect(MemorySample(rollup: "", status: "", statistics: "") == nil, "a process that has ended has no memory")
    }

    @Test func programsAreToldFromModels() {
        let maps = """
            55d0-55e0 r-xp 00000000 fe:00 123   /usr/bin/lathe
            Rss:                 100 kB
            Anonymous:             4 kB
            7f00-7f10 r--p 00000000 fe:00 124   /tmp/my model.lathe
            Rss:                5000 kB
            Anonymous:             0 kB
            7f20-7f30 rw-p 00000000 00:00 0
            Rss:                  64 kB
            Anonymous:            64 kB
            7f40-7f50 r-xp 00000000 fe:00 125   /lib/libc.so.6
            Rss:                  50 kB
            Anonymous:             0 kB
            """
        #expect(MemorySample.programBytes(maps: maps, executable: "/usr/bin/lathe") == 146 * 1024)
    }

    /// 10 samples, one each 0.1 s, of 1 MB own memory more each time.
    private func profile() -> MemoryProfile {
        var profile = MemoryProfile()
        profile.hear("process 42", at: 0)
        profile.hear("budget 20000000", at: 0)
        for index in 0..<10 {
            let time = Double(index) / 10
            if index == 2 { profile.hear("phase load", at: time) }
            if index == 4 { profile.hear("phase decode", at: time) }
            if index == 6 { profile.hear("phase <idle>", at: time) }
            if index == 8 { profile.hear("phase decode", at: time) }
            var sample = MemorySample()
            sample.time = time
            sample.anonymous = (index + 1) * 1_000_000
            sample.resident = sample.anonymous + 5_000_000
            sample.program = 2_000_000
            sample.majorFaults = index < 5 ? 0 : 3
            profile.add(sample)
        }
        profile.end(at: 1)
        return profile
    }

    @Test func phasesAreSummed() throws {
        let profile = profile()
        #expect(profile.process == 42 && profile.budget == 20_000_000)
        #expect(profile.summaries.map(\.name) == ["start", "load", "decode", "<idle>"])
        let decode = profile.summaries[2]
        #expect(decode.count == 2 && abs(decode.seconds - 0.4) < 1e-9)
        #expect(decode.peakAnonymous == 10_000_000 && decode.peakTotal == 15_000_000 && decode.peakFile == 5_000_000)
        #expect(decode.majorFaults == 3)
        #expect(profile.whole.majorFaults == 3 && profile.peakResident == 15_000_000)
        #expect(profile.summaries[0].peakAnonymous == 3_000_000)
    }

    @Test func nonsenseIsNotHeard() {
        var profile = MemoryProfile()
        for line in ["", "phase", "plan", "plan {", "plan []", "plan {\"categories\":3}", "budget x", "fence {", "? 1"]
        {
            profile.hear(line, at: 0)
        }
        profile.end(at: 0)
        #expect(profile.phases.isEmpty && profile.planned.isEmpty && profile.budget == nil && profile.fence == nil)
        #expect(profile.summaries.isEmpty && profile.peakResident == 0)
        #expect(ProfilePlot(profile, title: "").svg.hasSuffix("</svg>\n"), "nothing to draw is no crash")
    }

    @Test func plansStandBesideWhatWasMeasured() throws {
        var profile = profile()
        profile.hear(#"plan {"categories":{"weights":9000000,"kv_cache":2000000},"total_bytes":11000000}"#, at: 1)
        profile.hear(#"measured {"categories":{"weights":8500000,"windows":1}}"#, at: 1)
        profile.hear(#"fence {"means":"cgroup v1","peak_bytes":777}"#, at: 1)
        #expect(profile.comparison.map(\.category) == ["weights", "kv_cache", "windows"])
        #expect(profile.comparison[0].planned == 9_000_000 && profile.comparison[0].measured == 8_500_000)
        #expect(profile.comparison[1].measured == nil && profile.comparison[2].planned == nil)
        #expect(profile.fencePeak == 777)
        let svg = ProfilePlot(profile, title: "a & b").svg
        #expect(svg.contains("weights 9.0 MB") && svg.contains("a &amp; b"))
    }

    @Test func drawing() {
        let svg = ProfilePlot(profile(), title: "lathe generate").svg
        #expect(svg.hasPrefix("<svg ") && svg.hasSuffix("</svg>\n"))
        for text in ["decode ×2", "&lt;idle&gt;", "budget 20.0 MB", "peak 15.0 MB", "anonymous", "seconds"] {
            #expect(svg.contains(text), "\(text)")
        }
        #expect(!svg.contains("nan") && !svg.contains("inf"))
        var tight = profile()
        tight.hear("budget 900000000", at: 1)
        #expect(ProfilePlot(tight, title: "").svg.contains("budget 900.0 MB, far above"))
    }

    @Test func marksDoNothingUnlessSomeoneListens() {
        // Nobody listens in a test process.
        PhaseMarks.mark("decode")
        #expect(!PhaseMarks.isConnected)
    }
}
