// SPDX-License-Identifier: Apache-2.0
package import Qwen3

/// Bradley-Terry over the pairs of a step: the mean of -log sigmoid(r_chosen - r_rejected), and on wish of
/// (r_chosen + r_rejected)² (TRL's RewardTrainer).
package struct PreferenceObjective: Sendable {
    /// Pairs of the whole step.
    package var pairCount: Double
    /// Coefficient of the second mean.
    package var centerCoefficient: Double

    package init(pairCount: Double, centerCoefficient: Double = 0) {
        self.pairCount = pairCount
        self.centerCoefficient = centerCoefficient
    }

    /// Gradients of scalars, chosen and rejected in turn; what they add to the step goes to `statistics`.
    package func evaluate(
        _ scalars: some Collection<Float>, _ statistics: inout StepStatistics
    ) -> [RowGradient] {
        let scalars = scalars.map(Double.init)
        precondition(scalars.count % 2 == 0, "a cell holds whole pairs")
        var gradients: [RowGradient] = []
        for first in stride(from: 0, to: scalars.count, by: 2) {
            let (chosen, rejected) = (scalars[first], scalars[first + 1])
            let (margin, sum) = (chosen - rejected, chosen + rejected)
            statistics[.preferenceLoss] +=
                (Self.softplus(-margin) + centerCoefficient * sum * sum) / pairCount
            statistics[.preferencePairs] += 1
            statistics[.correctPairs] += margin > 0 ? 1 : 0
            statistics[.margin] += margin
            statistics[.scalars] += sum
            statistics[.scalarHighest] = max(statistics[.scalarHighest], max(chosen, rejected))
            statistics[.scalarLowest] = max(statistics[.scalarLowest], -min(chosen, rejected))
            // d softplus(-m) / dm = -sigmoid(-m).
            let slope = -1 / (1 + portableExp(margin))
            let pull = 2 * centerCoefficient * sum
            gradients.append(RowGradient(logProb: Float((pull + slope) / pairCount)))
            gradients.append(RowGradient(logProb: Float((pull - slope) / pairCount)))
        }
        return gradients
    }

    /// log(1 + e^x).
    static func softplus(_ x: Double) -> Double { max(x, 0) + portableLog1p(portableExp(-abs(x))) }
}
