// SPDX-License-Identifier: Apache-2.0
import Qwen3
import Testing

@testable import PostTraining

@Suite("Objective of a step")
struct StepObjectiveTests {
    /// Responses of unequal lengths with everything in play.
    private let sequences = (0..<7).map { index -> TrainingSequence in
        let count = 1 + (index * 5) % 9
        func values(_ scale: Float, _ shift: Float) -> [Float] {
            (0..<count).map { Float(($0 * 7 + index * 3) % 11) * scale + shift }
        }
        return TrainingSequence(
            tokens: [Int32](repeating: 1, count: count + 2), scored: (2..<Int32(count + 2)).map { $0 },
            advantages: [Float](repeating: Float(index % 3) - 1, count: count), old: values(-0.11, -0.2),
            reference: values(-0.13, -0.1), policyMask: (0..<count).map { $0 % 4 != 3 || index == 2 },
            crossEntropy: index % 2 == 0 ? values(0.1, 0) : [], divergence: index % 2 == 1 ? values(0.05, 0.1) : [])
    }

    private func scores(_ sequence: TrainingSequence) -> [TokenScore] {
        sequence.old.enumerated().map { TokenScore(logProb: $1 + Float($0 % 5) * 0.09 - 0.2, entropy: Float($0)) }
    }

    @Test(
        "divisors are those of the whole step: evaluated in other parts, loss and gradients are the same",
        arguments: LossAggregation.allCases)
    func partsDoNotMatter(aggregation: LossAggregation) {
        var objective = StepObjective(
            aggregation: aggregation, constantLength: 16, entropyCoefficient: 0.01, divisors: StepDivisors(sequences))
        objective.policy.klCoefficient = 0.05
        var whole = StepStatistics()
        let gradients = sequences.map { objective.evaluate($0, scores($0), &whole) }
        for cut in 1..<sequences.count {
            var parts = [StepStatistics(), StepStatistics()]
            for (index, sequence) in sequences.enumerated() {
                let part = index < cut ? 0 : 1
                #expect(objective.evaluate(sequence, scores(sequence), &parts[part]) == gradients[index])
            }
            for index in whole.sums.indices {
                let sum = parts[0].sums[index] + parts[1].sums[index]
                #expect(abs(sum - whole.sums[index]) <= 1e-12 * max(1, abs(whole.sums[index])))
            }
        }
    }

    @Test("gradients are those of finite differences in fp64", arguments: LossAggregation.allCases)
    func finiteDifferences(aggregation: LossAggregation) {
        for (form, level) in [
            (PolicyGradientOptions.Form.clipped, PolicyGradientOptions.RatioLevel.token), (.clipped, .sequence),
        ] {
            var options = PolicyGradientOptions()
            (options.form, options.ratioLevel) = (form, level)
            options.klCoefficient = 0.1
            options.klBiasCorrection = true
            options.dualClip = 3
            let tokens = PolicyTokens(
                current: [-0.5, -1.25, -0.75, -2], old: [-0.625, -1, -0.75, -2.5], reference: [-0.4, -1.5, -1, -2],
                advantages: [1, 1, -0.5, -0.5], weights: [0.25, 0.125, 0.5, 0.25])
            let gradient = PolicyGradient(options).evaluate(tokens).gradients
            for index in tokens.current.indices {
                // A power of two, so that the shifted fp32 inputs are exact.
                let step: Float = 0x1p-12
                func loss(_ shift: Float) -> Double {
                    var moved = tokens
                    moved.current[index] += shift
                    return PolicyGradient(options).evaluate(moved).loss
                }
                let slope = (loss(step) - loss(-step)) / (2 * Double(step))
                #expect(abs(slope - gradient[index]) < 1e-6, "\(level) \(index): \(slope), \(gradient[index])")
            }
        }
    }

    @Test("a step without a response divides by one, not by zero")
    func empty() {
        var statistics = StepStatistics()
        let objective = StepObjective(divisors: StepDivisors([]))
        #expect(objective.evaluate(TrainingSequence(tokens: [1], scored: []), [], &statistics).isEmpty)
        #expect(statistics.sums.allSatisfy { $0 == 0 })
    }

    @Test("cells depend on the data alone, shares cover them in order")
    func packing() {
        let counts = [3, 9, 4, 4, 20, 1, 1, 7, 8]
        let cells = CellPacking.pack(tokenCounts: counts, budget: 10)
        #expect(cells == [[0], [1], [2, 3], [4], [5, 6, 7], [8]])
        for members in 1...9 {
            let ranges = CellPacking.share(
                cellTokenCounts: cells.map { $0.reduce(0) { $0 + counts[$1] } }, members: members)
            #expect(ranges.count == members && ranges.first?.lowerBound == 0 && ranges.last?.upperBound == cells.count)
            #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
        }
    }

    @Test("the entropy controller follows TRL's rule")
    func controller() {
        var controller = EntropyController(target: 0.2)
        #expect(controller.bonus == 0)
        controller.note(entropy: 0.1)
        #expect(controller.bonus == 0.005)
        controller.note(entropy: 0.1)
        #expect(controller.bonus == 0.01)
        controller.note(entropy: 0.3)
        #expect(controller.bonus == 0 && controller.coefficient == 0.005)
    }
}
