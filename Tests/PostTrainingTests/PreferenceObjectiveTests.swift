// SPDX-License-Identifier: Apache-2.0
import Foundation
import Qwen3
import Testing

@testable import PostTraining

@Suite("Objective of preference pairs")
struct PreferenceObjectiveTests {
    @Test("the loss and its figures are those computed by hand")
    func byHand() {
        var statistics = StepStatistics()
        // Margins 1, 0 and -5: -log sigmoid is 0.3133, log 2 and 5.0067. Sums 1, 0 and 1.
        let gradients = PreferenceObjective(pairCount: 3, centerCoefficient: 0.25)
            .evaluate([1, 0, 0, 0, -2, 3], &statistics)
        let loss = (0.313_261_687_518_222_8 + 0.693_147_180_559_945_3 + 5.006_715_348_489_118) / 3 + 0.25 * 2 / 3
        #expect(abs(statistics[.preferenceLoss] - loss) < 1e-14)
        // A tie is no success.
        #expect(statistics[.preferencePairs] == 3 && statistics[.correctPairs] == 1)
        #expect(statistics[.margin] == -4 && statistics[.scalars] == 2)
        #expect(statistics[.scalarHighest] == 3 && -statistics[.scalarLowest] == -2)
        // Sigmoid of the turned margins: 0.2689, 0.5, 0.9933; the pull of the second mean is 2 · 0.25 · sum.
        let slopes = [0.268_941_421_369_995_1, 0.5, 0.993_307_149_075_715_2]
        for (index, slope) in slopes.enumerated() {
            let pull = 0.5 * [1.0, 0, 1][index]
            #expect(gradients[2 * index].logProb == Float((pull - slope) / 3))
            #expect(gradients[2 * index + 1].logProb == Float((pull + slope) / 3))
            #expect(gradients[2 * index].entropy == 0 && gradients[2 * index].divergence == 0)
        }
    }

    @Test("gradients are those of finite differences in fp64, with and without the second mean", arguments: [0, 0.125])
    func finiteDifferences(center: Double) {
        let scalars: [Float] = [0.5, -1.25, 2, 2.5, -3, -7, 0.0625, 0]
        let objective = PreferenceObjective(pairCount: 4, centerCoefficient: center)
        func loss(_ scalars: [Float]) -> Double {
            var statistics = StepStatistics()
            _ = objective.evaluate(scalars, &statistics)
            return statistics[.preferenceLoss]
        }
        var statistics = StepStatistics()
        let gradients = objective.evaluate(scalars, &statistics)
        for index in scalars.indices {
            // A power of two, so that the shifted fp32 inputs are exact.
            let step: Float = 0x1p-12
            var (above, below) = (scalars, scalars)
            above[index] += step
            below[index] -= step
            let slope = (loss(above) - loss(below)) / (2 * Double(step))
            #expect(abs(slope - Double(gradients[index].logProb)) < 1e-7, "\(index)")
        }
    }

    @Test("in other parts the step is the same, and scalars far apart stay finite")
    func parts() {
        let scalars: [Float] = [1000, -1000, -3e30, 3e30, 0.5, 0.25]
        let objective = PreferenceObjective(pairCount: 3)
        var whole = StepStatistics()
        let gradients = objective.evaluate(scalars, &whole)
        var parts = StepStatistics()
        let ofParts = objective.evaluate(scalars[..<2], &parts) + objective.evaluate(scalars[2...], &parts)
        #expect(gradients == ofParts && parts == whole)
        #expect(whole[.preferenceLoss].isFinite && gradients.allSatisfy { $0.logProb.isFinite })
        #expect(gradients[0].logProb == 0 && gradients[2].logProb == Float(-1.0 / 3))
    }

    @Test("the logarithm is libm's within four units in the last place")
    func logarithm() {
        for index in 0...10_000 {
            let x = Double(index) / 10_000
            #expect(abs(portableLog1p(x) - Foundation.log1p(x)) <= 4 * Foundation.log1p(x).ulp)
        }
    }

    @Test("the two of a pair are never parted, whatever the budget")
    func packing() {
        let counts = [5, 7, 3, 3, 20, 20, 2, 2, 1, 6]
        let shared = [0, 4, 0, 0, 0, 16, 0, 0, 0, 0]
        for budget in 1...60 {
            let cells = CellPacking.pack(tokenCounts: counts, shared: shared, unit: 2, budget: budget)
            #expect(cells.flatMap { $0 } == Array(counts.indices))
            #expect(cells.allSatisfy { $0.count % 2 == 0 && $0[0] % 2 == 0 })
            for cell in cells where cell.count > 2 {
                #expect(cell.reduce(0) { $0 + counts[$1] - shared[$1] } <= budget)
            }
        }
        // 8 rows and 6, then 24.
        #expect(
            CellPacking.pack(tokenCounts: counts, shared: shared, unit: 2, budget: 14).prefix(2) == [
                [0, 1, 2, 3], [4, 5],
            ])
    }
}
