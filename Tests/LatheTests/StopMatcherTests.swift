import Testing

@testable import Lathe

/// Stop strings in text that comes in pieces: what is given out never depends on where the pieces end.
@Suite struct StopMatcherTests {
    struct Example: Sendable, CustomTestStringConvertible {
        let stops: [String]
        let text: String
        /// The text before the stop string.
        let expected: String
        let isStopped: Bool
        var testDescription: String { "\(stops) in \(text)" }
        init(_ stops: [String], _ text: String, _ expected: String, stopped: Bool = true) {
            (self.stops, self.text, self.expected, isStopped) = (stops, text, expected, stopped)
        }
    }

    static let examples = [
        Example(["END"], "one END two", "one "),
        Example(["END"], "END", ""),
        Example(["END"], "EEND", "E"),
        Example(["END"], "ENEND!", "EN"),
        Example(["END"], "one EN", "one EN", stopped: false),
        Example(["aab"], "aaaab", "aa"),
        Example(["abab"], "ababab", ""),
        Example(["abac"], "abababac", "abab"),
        Example(["x"], "", "", stopped: false),
        Example([], "anything", "anything", stopped: false),
        Example(["\n\n", "\nUser:"], "a\nb\nUser: c", "a\nb"),
        Example(["\n\n", "\nUser:"], "a\n\nUser: c", "a"),
        // The string that is complete first ends the text; of those complete at once, the longest.
        Example(["abcd", "bc"], "xabcd", "xa"),
        Example(["bc", "abc"], "xabcd", "x"),
        Example(["b", "ab"], "xab", "x"),
        Example(["é"], "cafe\u{301} café", "cafe\u{301} caf"),
        Example(["日本"], "東日日本語", "東日"),
        Example(["👩‍👩‍👧"], "a👩b👩‍👩‍👧c", "a👩b"),
        Example(["ß", "ßa"], "Maß", "Ma"),
    ]

    private func run(_ stops: [String], _ pieces: [String]) -> (text: String, isStopped: Bool) {
        var matcher = StopMatcher(stops)
        var text = ""
        for piece in pieces {
            let (certain, isStopped) = matcher.append(piece)
            text += certain
            if isStopped { return (text, true) }
        }
        return (text + matcher.finish(), false)
    }

    @Test(arguments: examples)
    func whole(example: Example) {
        let (text, isStopped) = run(example.stops, [example.text])
        #expect(text == example.expected && isStopped == example.isStopped)
    }

    @Test(arguments: examples)
    func byScalar(example: Example) {
        let (text, isStopped) = run(example.stops, example.text.unicodeScalars.map { String($0) })
        #expect(text == example.expected && isStopped == example.isStopped)
    }

    @Test(arguments: examples)
    func inTwoPieces(example: Example) {
        let scalars = Array(example.text.unicodeScalars)
        for cut in 0...scalars.count {
            func text(_ part: ArraySlice<Unicode.Scalar>) -> String {
                var view = String.UnicodeScalarView()
                view.append(contentsOf: part)
                return String(view)
            }
            let (text, isStopped) = run(example.stops, [text(scalars[..<cut]), text(scalars[cut...])])
            #expect(text == example.expected && isStopped == example.isStopped, "cut at \(cut)")
        }
    }

    @Test func givesOutWhatCannotBeginAStopString() {
        var matcher = StopMatcher(["END"])
        #expect(matcher.append("abcE") == ("abc", false))
        #expect(matcher.append("x") == ("Ex", false))
        #expect(matcher.append("EN") == ("", false))
        #expect(matcher.append("E") == ("EN", false))
        #expect(matcher.finish() == "E")
    }
}
