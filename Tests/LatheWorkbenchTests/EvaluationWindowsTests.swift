import LatheFormat
import Testing

@testable import LatheWorkbench

@Suite struct EvaluationWindowsTests {
    /// Every token counts once, but the first of the text; it counts in the first window that holds it, and the windows are
    /// those of the guide's loop.
    @Test(arguments: [1, 2, 5, 16, 17, 31, 32, 100], [(16, 8), (16, 1), (16, 15), (2, 1), (7, 3)])
    func eachTokenCountsOnce(count: Int, shape: (length: Int, stride: Int)) throws {
        let windows = try EvaluationWindows(length: shape.length, stride: shape.stride, contextLength: 16)
            .windows(ofTokens: count)
        #expect(windows.flatMap { Array($0.countedTokens) } == Array(1..<max(1, count)))
        for (index, window) in windows.enumerated() {
            #expect(window.tokens.lowerBound == index * shape.stride)
            #expect(window.tokens.count <= shape.length && window.tokens.upperBound <= count)
            #expect((1..<window.tokens.count).contains(window.firstCounted))
        }
    }

    /// Without overlap the first token of each window is predicted by nothing.
    @Test func withoutOverlap() throws {
        let windows = try EvaluationWindows(length: 4, stride: 4, contextLength: 4)
        #expect(windows.windows(ofTokens: 10).flatMap { Array($0.countedTokens) } == [1, 2, 3, 5, 6, 7, 9])
        // A last window of one token counts nothing.
        #expect(windows.windows(ofTokens: 9).map(\.tokens) == [0..<4, 4..<8])
    }

    @Test func defaults() throws {
        let windows = try EvaluationWindows(length: nil, stride: nil, contextLength: 1024)
        #expect((windows.length, windows.stride) == (1024, 512))
        #expect(try EvaluationWindows(length: 3, stride: nil, contextLength: 1024).stride == 1)
    }

    @Test(arguments: [(1, nil), (17, nil), (nil, 0), (8, 9), (-4, nil)] as [(Int?, Int?)])
    func refusals(length: Int?, stride: Int?) throws {
        let error = #expect(throws: LatheError.self) {
            try EvaluationWindows(length: length, stride: stride, contextLength: 16)
        }
        #expect(error?.code == .invalidRequest)
    }
}
