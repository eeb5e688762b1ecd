import Foundation
import Testing

@testable import LatheWorkbench

@Suite struct DivergenceTests {
    @Test func exponential() {
        var worst = 0.0
        for step in 0...70_000 {
            let x = -Double(step) / 100
            worst = max(worst, abs(Divergence.exponential(x) / Foundation.exp(x) - 1))
        }
        #expect(worst < 1e-13)
        #expect(Divergence.exponential(0) == 1)
        #expect(Divergence.exponential(-1e6) < 1e-300)
    }

    /// Against the definition, term by term; vocabularies below, at and above the size of a piece.
    @Test(arguments: [1, 2, 63, 64, 65, 500], [1e-4, 0.1, 8])
    func definition(count: Int, scale: Double) {
        var random = SystemRandomNumberGenerator()
        let reference = (0..<count).map { _ in Float.random(in: -12...12, using: &random) }
        let model = reference.map { $0 + Float(scale) * Float.random(in: -1...1, using: &random) }
        let token = Int.random(in: 0..<count)
        let divergence = Divergence(reference: reference.span, model: model.span, token: token)

        func distribution(_ logits: [Float]) -> [Double] {
            let weights = logits.map { exp(Double($0)) }
            let sum = weights.reduce(0, +)
            return weights.map { $0 / sum }
        }
        let (p, q) = (distribution(reference), distribution(model))
        let expected = zip(p, q).reduce(0) { $0 + $1.0 * log($1.0 / $1.1) }
        #expect(abs(divergence.nats - max(0, expected)) <= 1e-12 + 1e-9 * abs(expected))
        #expect(abs(divergence.referenceProbability / p[token] - 1) < 1e-11)
        #expect(abs(divergence.modelProbability / q[token] - 1) < 1e-11)
        #expect(abs(divergence.referenceLoss + log(p[token])) < 1e-10)
        #expect(abs(divergence.modelLoss + log(q[token])) < 1e-10)
        #expect(
            divergence.agrees == (reference.firstIndex(of: reference.max()!) == model.firstIndex(of: model.max()!)))
    }

    @Test func ofItself() {
        let logits = (0..<300).map { Float($0 % 17) }
        let divergence = Divergence(reference: logits.span, model: logits.span, token: 3)
        #expect(divergence.nats < 1e-14 && divergence.agrees)
        #expect(divergence.referenceLoss == divergence.modelLoss)
    }
}
