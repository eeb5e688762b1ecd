import LatheFormat
import Testing

@testable import Lathe

@Suite struct ThreadCountTests {
    @Test(arguments: [
        ("0", 1), ("0-3", 4), ("0-3,8", 5), ("\t0-1\n", 2), ("3,5,7", 3), ("0-0", 1), ("0-127,256-383", 256),
    ])
    func cpuLists(list: String, count: Int) {
        #expect(ThreadCount.parseCPUList(list) == count)
    }

    @Test(arguments: ["", ",", "a", "3-1", "-", "0-x", "1-2-3", "-3", "0-9223372036854775807", "4294967296"])
    func nonsenseIsNoCPUList(list: String) {
        #expect(ThreadCount.parseCPUList(list) == nil)
    }

    @Test func quotas() {
        #expect(ThreadCount.parseQuota("50000", period: "100000") == 0.5)
        #expect(ThreadCount.parseQuota("200000", period: "100000") == 2)
        #expect(ThreadCount.parseQuota("max", period: "100000") == nil, "version 2: no limit")
        #expect(ThreadCount.parseQuota("-1", period: "100000") == nil, "version 1: no limit")
        #expect(ThreadCount.parseQuota("100000", period: "0") == nil)
        #expect(ThreadCount.parseQuota("nan", period: "100000") == nil)
        #expect(ThreadCount.parseQuota("inf", period: "100000") == nil)
        #expect(ThreadCount.parseQuota("", period: "") == nil)
    }

    @Test func requested() throws {
        #expect(try ThreadCount(requested: 3).count == 3)
        #expect(try ThreadCount(requested: 3).source == "requested")
        for wrong in [0, -1, 1025, .max, .min] {
            let error = #expect(throws: LatheError.self) { try ThreadCount(requested: wrong) }
            #expect(error?.code == .invalidRequest)
        }
    }

    @Test func chosenByTheMachine() throws {
        let chosen = try ThreadCount(requested: nil)
        #expect(chosen.count >= 1)
        #expect(["affinity", "cgroup quota", "cores"].contains(chosen.source))
        #expect(chosen.description == "\(chosen.count) (\(chosen.source))")
    }
}
