import Lathe
import LatheFormat
import Testing

@testable import LatheService

/// How many sessions and tokens a budget holds.
@Suite struct ServicePlanTests {
    private func plan(_ budget: Int?, sessions: Int? = nil, context: Int? = nil) throws -> MemoryPlan {
        let model = try TestModel.novelist()
        var settings = ServiceSettings(modelName: "novelist")
        settings.sessions = sessions
        settings.engine.memoryBudget = budget
        settings.engine.contextLength = context
        return try ServicePlan.fitting(settings) { options throws(LatheError) in
            try MemoryPlan(model: model, options: options)
        }
    }

    @Test func roomyBudgetHoldsAWholeContextEach() throws {
        let plan = try plan(2_000_000_000)
        #expect(plan.sessions == ServicePlan.automaticSessions)
        #expect(plan.keyValueTokens == 16 * 512)
        #expect(try self.plan(2_000_000_000, sessions: 3).keyValueTokens == 3 * 512)
    }

    /// Every budget that holds one context is used as far as it goes, and never exceeded.
    @Test func tightBudgetsAreKept() throws {
        let least = try plan(2_000_000_000, sessions: 1).totalByteCount
        var last = 0
        for extra in stride(from: 0, to: 60_000_000, by: 4_000_000) {
            let budget = least + extra
            let plan = try plan(budget)
            #expect(plan.totalByteCount <= budget)
            #expect(plan.keyValueTokens >= 512 && plan.keyValueTokens >= last)
            #expect(plan.sessions == 1 || plan.keyValueTokens >= plan.sessions * 512 / 4)
            last = plan.keyValueTokens
        }
        #expect(last > 8 * 512)
        let refused = #expect(throws: LatheError.self) { try plan(least - 1) }
        #expect(refused?.code == .budget)
    }

    /// Asked for so many sessions, so many are given while one context and their rows fit.
    @Test func askedSessionsAreKept() throws {
        let one = try plan(2_000_000_000, sessions: 1).totalByteCount
        let plan = try plan(one + 2_000_000, sessions: 8)
        #expect(plan.sessions == 8 && plan.keyValueTokens >= 512 && plan.keyValueTokens < 8 * 512)
    }
}
