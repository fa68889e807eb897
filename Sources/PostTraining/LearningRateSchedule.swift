// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// The learning rate of each optimizer step, as a factor of its peak. Same numbers as transformers'
/// `get_{constant,linear,cosine}_schedule_with_warmup`: the first of several warm-up steps has rate 0.
package struct LearningRateSchedule: Sendable, Hashable {
    package enum Kind: String, Sendable, CaseIterable {
        case constant, linear, cosine
        /// Flat, then a straight line down to `finalFraction` from `decayStart` of the steps on.
        case warmupStableDecay = "warmup_stable_decay"
    }

    package let kind: Kind
    package let warmupSteps: Int
    package let totalSteps: Int
    /// Share of the steps after which the decay begins; of ``Kind/warmupStableDecay``.
    package let decayStart: Double
    package let finalFraction: Double

    package init(
        kind: Kind, warmupSteps: Int, totalSteps: Int, decayStart: Double = 0.7, finalFraction: Double = 0.1
    ) {
        self.kind = kind
        self.warmupSteps = warmupSteps
        self.totalSteps = totalSteps
        self.decayStart = decayStart
        self.finalFraction = finalFraction
    }

    /// - Parameter step: from 0.
    package func factor(step: Int) -> Double {
        if step < warmupSteps { return Double(step) / Double(max(1, warmupSteps)) }
        switch kind {
        case .constant: return 1
        case .linear:
            return max(0, Double(totalSteps - step) / Double(max(1, totalSteps - warmupSteps)))
        case .cosine:
            let progress = Double(step - warmupSteps) / Double(max(1, totalSteps - warmupSteps))
            return max(0, 0.5 * (1 + cos(.pi * 0.5 * 2 * progress)))
        case .warmupStableDecay:
            let begin = decayStart * Double(totalSteps)
            if Double(step) < begin { return 1 }
            let progress = (Double(step) - begin) / max(1, Double(totalSteps) - begin)
            return max(finalFraction, 1 - (1 - finalFraction) * progress)
        }
    }
}

/// Holds the policy's entropy near a target by switching an entropy bonus (TRL's `use_adaptive_entropy`): Qwen3's report
/// asks for an entropy that is stable or slowly rises.
package struct EntropyController: Sendable, Hashable {
    package let target: Double
    package let stepSize: Double
    package let maximum: Double
    package private(set) var coefficient: Double
    private var lastEntropy: Double?

    package init(target: Double, stepSize: Double = 0.005, maximum: Double = 1, coefficient: Double = 0) {
        self.target = target
        self.stepSize = stepSize
        self.maximum = maximum
        self.coefficient = coefficient
    }

    /// The bonus of the next step: none while the entropy is above the target.
    package var bonus: Double { (lastEntropy ?? .infinity) <= target ? coefficient : 0 }

    /// - Parameter entropy: mean over the step's tokens.
    package mutating func note(entropy: Double) {
        lastEntropy = entropy
        coefficient =
            entropy <= target ? min(coefficient + stepSize, maximum) : max(coefficient - stepSize, 0)
    }
}
