// SPDX-License-Identifier: Apache-2.0
//
// One trainer, three streams: each token of a step may carry weight in the policy gradient, the cross-entropy and the
// divergence from a teacher, each stream divided by its own count over the whole step. GRPO, SFT, distillation and their
// mixtures are settings of this.
package import Qwen3

/// How token losses become one number.
package enum LossAggregation: String, Sendable, CaseIterable {
    /// Sum over tokens by the step's token count (DAPO, verl's default).
    case tokenMean = "token_mean"
    /// Mean over responses of each one's token mean (GRPO).
    case sequenceMean = "sequence_mean"
    /// Sum over tokens by responses times a constant length (Dr. GRPO).
    case constantLength = "constant_length"
}

/// A sequence with what its tokens are trained on. Arrays have one element per scored token.
package struct TrainingSequence: Sendable, Equatable {
    /// Prompt and response.
    package var tokens: [Int32]
    /// Positions of the scored tokens, ascending.
    package var scored: [Int32]
    /// Empty where the sequence is in no policy gradient.
    package var advantages: [Float]
    package var old: [Float]
    package var reference: [Float]
    package var importance: [Float]
    /// 1 where the policy gradient counts the token.
    package var policyMask: [Bool]
    /// Weight of the cross-entropy of each token; empty for none.
    package var crossEntropy: [Float]
    /// Weight of the divergence from the teacher; empty for none.
    package var divergence: [Float]
    /// See ``TrainingCell``: experts that routers take over; empty for none.
    package var routes: [UInt8] = []
    /// The cluster's number of the frozen model that the sequence is compared with: a teacher or the reference; 0: none.
    package var guide: UInt32 = 0

    package init(
        tokens: [Int32], scored: [Int32], advantages: [Float] = [], old: [Float] = [], reference: [Float] = [],
        importance: [Float] = [], policyMask: [Bool] = [], crossEntropy: [Float] = [], divergence: [Float] = []
    ) {
        self.tokens = tokens
        self.scored = scored
        self.advantages = advantages
        self.old = old
        self.reference = reference
        self.importance = importance
        self.policyMask = policyMask
        self.crossEntropy = crossEntropy
        self.divergence = divergence
    }

    var policyTokenCount: Int { policyMask.count { $0 } }
}

/// The divisors of a whole optimizer step, computed in one place from all of its sequences.
package struct StepDivisors: Sendable, Equatable {
    package var policyTokens = 0.0
    package var policySequences = 0.0
    package var crossEntropyWeight = 0.0
    package var divergenceWeight = 0.0

    package init() {}

    package init(_ sequences: some Sequence<TrainingSequence>) {
        for sequence in sequences {
            let count = sequence.policyTokenCount
            policyTokens += Double(count)
            // A response whose tokens are all masked still counts, as in TRL.
            if !sequence.policyMask.isEmpty { policySequences += 1 }
            for weight in sequence.crossEntropy { crossEntropyWeight += Double(weight) }
            for weight in sequence.divergence { divergenceWeight += Double(weight) }
        }
    }
}

/// Sums over tokens that add up over cells, and largest values.
package struct StepStatistics: Sendable, Equatable {
    package enum Sum: Int, CaseIterable, Sendable {
        case policyLoss, crossEntropyLoss, kl, entropy, clippedLow, clippedHigh, policyTokens, scoredTokens
        case preferenceLoss, preferencePairs, correctPairs, margin, scalars
    }

    /// The lowest scalar has its sign turned.
    package enum Maximum: Int, CaseIterable, Sendable { case ratio, drift, scalarHighest, scalarLowest }

    package var sums = [Double](repeating: 0, count: Sum.allCases.count)
    package var maxima = [Double](repeating: 0, count: Maximum.allCases.count)

    package init() {
        self[.scalarHighest] = -.infinity
        self[.scalarLowest] = -.infinity
    }

    package subscript(sum: Sum) -> Double {
        get { sums[sum.rawValue] }
        set { sums[sum.rawValue] = newValue }
    }

    package subscript(maximum: Maximum) -> Double {
        get { maxima[maximum.rawValue] }
        set { maxima[maximum.rawValue] = newValue }
    }
}

/// The objective of one step.
package struct StepObjective: Sendable {
    package var policy: PolicyGradientOptions
    package var aggregation: LossAggregation
    /// L of Dr. GRPO: the constant that token sums are divided by.
    package var constantLength: Double
    package var entropyCoefficient: Double
    /// Coefficient of log p_old - log p_reference, subtracted from each token's advantage: the divergence as a reward.
    package var klInReward = 0.0
    /// Set where a reward model learns from pairs; then nothing else counts.
    package var preference: PreferenceObjective?
    package var divisors: StepDivisors

    package init(
        policy: PolicyGradientOptions = PolicyGradientOptions(), aggregation: LossAggregation = .tokenMean,
        constantLength: Double = 1, entropyCoefficient: Double = 0, divisors: StepDivisors
    ) {
        self.policy = policy
        self.aggregation = aggregation
        self.constantLength = constantLength
        self.entropyCoefficient = entropyCoefficient
        self.divisors = divisors
    }

    /// Gradients of one sequence's scored tokens; what they add to the step goes to `statistics`.
    package func evaluate(
        _ sequence: TrainingSequence, _ scores: some Collection<TokenScore>, _ statistics: inout StepStatistics
    ) -> [RowGradient] {
        let scores = Array(scores)
        precondition(scores.count == sequence.scored.count)
        var gradients = [Gradient](repeating: Gradient(), count: scores.count)
        statistics[.scoredTokens] += Double(scores.count)
        for score in scores { statistics[.entropy] += Double(score.entropy) }
        if !sequence.policyMask.isEmpty { addPolicy(sequence, scores, &gradients, &statistics) }
        if !sequence.crossEntropy.isEmpty, divisors.crossEntropyWeight > 0 {
            for (index, weight) in sequence.crossEntropy.enumerated() {
                let share = Double(weight) / divisors.crossEntropyWeight
                statistics[.crossEntropyLoss] -= share * Double(scores[index].logProb)
                gradients[index].logProb -= share
            }
        }
        return gradients.enumerated().map { index, gradient in
            let divergence = sequence.divergence.isEmpty ? 0 : Double(sequence.divergence[index])
            return RowGradient(
                logProb: Float(gradient.logProb), entropy: Float(gradient.entropy),
                divergence: divergence == 0 ? 0 : Float(divergence / divisors.divergenceWeight))
        }
    }

    private struct Gradient {
        var logProb = 0.0
        var entropy = 0.0
    }

    private func addPolicy(
        _ sequence: TrainingSequence, _ scores: [TokenScore], _ gradients: inout [Gradient],
        _ statistics: inout StepStatistics
    ) {
        let share = weight(ofTokenIn: sequence)
        let current = scores.map(\.logProb)
        let old = sequence.old.isEmpty ? current : sequence.old
        var advantages = sequence.advantages
        if klInReward != 0, !sequence.reference.isEmpty {
            for index in advantages.indices {
                let distance = Double(old[index]) - Double(sequence.reference[index])
                advantages[index] = Float(Double(advantages[index]) - klInReward * distance)
            }
        }
        // Without an older log-probability the ratio is 1 and only its gradient counts.
        let loss = PolicyGradient(policy).evaluate(
            PolicyTokens(
                current: current, old: old,
                behaviour: sequence.old.isEmpty ? nil : sequence.old,
                reference: sequence.reference.isEmpty ? nil : sequence.reference, advantages: advantages,
                importance: sequence.importance.isEmpty ? nil : sequence.importance,
                weights: sequence.policyMask.map { $0 ? share : 0 }))
        statistics[.policyLoss] += loss.loss
        statistics[.kl] += loss.kl
        statistics[.clippedLow] += Double(loss.clippedLow)
        statistics[.clippedHigh] += Double(loss.clippedHigh)
        statistics[.policyTokens] += Double(loss.tokenCount)
        statistics[.ratio] = max(statistics[.ratio], loss.ratioMax)
        statistics[.drift] = max(statistics[.drift], loss.driftMax)
        for index in gradients.indices {
            gradients[index].logProb += loss.gradients[index]
            if sequence.policyMask[index] { gradients[index].entropy -= entropyCoefficient * share }
        }
    }

    private func weight(ofTokenIn sequence: TrainingSequence) -> Double {
        switch aggregation {
        case .tokenMean: 1 / max(divisors.policyTokens, 1)
        case .sequenceMean:
            1 / Double(max(sequence.policyTokenCount, 1)) / max(divisors.policySequences, 1)
        case .constantLength: 1 / (max(divisors.policySequences, 1) * constantLength)
        }
    }
}
