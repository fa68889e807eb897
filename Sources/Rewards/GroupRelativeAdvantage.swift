// SPDX-License-Identifier: Apache-2.0
//
// Group-relative advantages (Shao et al. 2024, DeepSeekMath, section 4.1; Liu et al. 2025 for the form
// without the standard deviation). Same numbers as TRL 1.16 `GRPOTrainer._generate_and_score_completions` up
// to the rounding of its fp32, and as verl's `compute_grpo_outcome_advantage`. All sums are fp64 in index
// order.

/// Turns rewards of groups of rollouts into advantages.
package struct GroupRelativeAdvantage: Equatable, Sendable {
    /// Whose standard deviation divides.
    package enum Scale: String, CaseIterable, Sendable { case group, batch, none }

    /// How several reward functions are combined.
    package enum Aggregation: String, CaseIterable, Sendable {
        /// Weighted sum of rewards first (TRL's default).
        case sumThenNormalize = "sum_then_normalize"
        /// Each function is normalised in its group, then summed, then normalised over the batch.
        case normalizeThenSum = "normalize_then_sum"
    }

    /// The advantages of a batch and what it was made of.
    package struct Batch: Equatable, Sendable {
        /// One per rollout; exactly 0 where the rollout has no reward or its group has no spread.
        package let advantages: [Double]
        /// Weighted reward of each rollout; nil where no function gave one.
        package let rewards: [Double?]
        /// Per group: at least one reward, and all rewards equal.
        package let hasZeroVariance: [Bool]
    }

    package let scale: Scale
    /// Divide the variance by n - 1 (true) or n.
    package let unbiased: Bool
    package let epsilon: Double
    package let aggregation: Aggregation
    /// What a group with one reward gets: that reward (verl: mean 0, deviation 1) or 0.
    package let singletonKeepsReward: Bool

    package init(
        scale: Scale, unbiased: Bool = true, epsilon: Double, aggregation: Aggregation = .sumThenNormalize,
        singletonKeepsReward: Bool = false
    ) {
        precondition(epsilon >= 0 && epsilon.isFinite, "epsilon \(epsilon)")
        self.scale = scale
        self.unbiased = unbiased
        self.epsilon = epsilon
        self.aggregation = aggregation
        self.singletonKeepsReward = singletonKeepsReward
    }

    /// TRL: (r - mean) / (std + 1e-4), n - 1.
    package static let trl = GroupRelativeAdvantage(scale: .group, epsilon: 1e-4)
    /// verl: (r - mean) / (std + 1e-6), n - 1; a group of one keeps its reward.
    package static let verl = GroupRelativeAdvantage(scale: .group, epsilon: 1e-6, singletonKeepsReward: true)
    /// Dr. GRPO: r - mean.
    package static let drGRPO = GroupRelativeAdvantage(scale: .none, epsilon: 1e-6)

    /// - Parameters:
    ///   - rewards: `[F][N * groupSize]`, per function and rollout, groups one after the other; nil (or NaN)
    ///     is a rollout that the function could not score: it neither counts in mean and deviation nor gets
    ///     an advantage when no function scored it.
    ///   - weights: one per function; nil is 1 each.
    package func advantages(rewards: [[Double?]], weights: [Double]? = nil, groupSize: Int) -> Batch {
        let weights = weights ?? Array(repeating: 1, count: rewards.count)
        let count = rewards.first?.count ?? 0
        precondition(groupSize > 0 && count % groupSize == 0, "\(count) rewards in groups of \(groupSize)")
        precondition(
            weights.count == rewards.count, "\(weights.count) weights for \(rewards.count) reward functions")
        precondition(
            rewards.allSatisfy { $0.count == count }, "reward functions scored different numbers of rollouts")
        let known = rewards.map { $0.map { $0.flatMap { $0.isNaN ? nil : $0 } } }
        let sums = weightedSums(known, weights)
        let groups = stride(from: 0, to: count, by: groupSize).map { $0..<($0 + groupSize) }
        let zeroVariance = groups.map { group in
            let present = sums[group].compactMap { $0 }
            return !present.isEmpty && present.allSatisfy { $0 == present[0] }
        }
        let advantages =
            switch aggregation {
            case .sumThenNormalize: normalize(sums, groups)
            case .normalizeThenSum: normalizeThenSum(known, weights, groups)
            }
        return Batch(advantages: advantages.map { $0 ?? 0 }, rewards: sums, hasZeroVariance: zeroVariance)
    }

    private func normalize(_ rewards: [Double?], _ groups: [Range<Int>]) -> [Double?] {
        let batch = Moments(rewards[...], unbiased: unbiased)
        var result = rewards
        for group in groups {
            let moments = Moments(rewards[group], unbiased: unbiased)
            for index in group {
                guard let reward = rewards[index] else { continue }
                result[index] = advantage(reward, moments, deviation: scale == .batch ? batch : moments)
            }
        }
        return result
    }

    private func advantage(_ reward: Double, _ group: Moments, deviation: Moments) -> Double {
        if group.count == 1, singletonKeepsReward { return reward }
        // Equal rewards have no preference: exactly 0, where fp32 rounding divided by epsilon would give
        // some.
        if group.isConstant { return 0 }
        let centred = reward - group.mean
        return scale == .none ? centred : centred / (deviation.standardDeviation + epsilon)
    }

    private func normalizeThenSum(
        _ rewards: [[Double?]], _ weights: [Double], _ groups: [Range<Int>]
    ) -> [Double?] {
        let normalized = rewards.map { values in
            var result = values
            for group in groups {
                let moments = Moments(values[group], unbiased: unbiased)
                for index in group {
                    result[index] = values[index].map { value in
                        moments.isConstant
                            ? 0 : (value - moments.mean) / (moments.standardDeviation + epsilon)
                    }
                }
            }
            return result
        }
        let sums = weightedSums(normalized, weights)
        let batch = Moments(sums[...], unbiased: unbiased)
        return sums.map { sum in
            sum.map { batch.isConstant ? 0 : ($0 - batch.mean) / (batch.standardDeviation + epsilon) }
        }
    }

    /// nil where no function has a value.
    private func weightedSums(_ rewards: [[Double?]], _ weights: [Double]) -> [Double?] {
        (0..<(rewards.first?.count ?? 0)).map { index in
            var sum: Double?
            for (values, weight) in zip(rewards, weights) {
                if let value = values[index] { sum = (sum ?? 0) + weight * value }
            }
            return sum
        }
    }
}

/// Mean and standard deviation of the present values.
private struct Moments {
    let count: Int
    let mean: Double
    let standardDeviation: Double
    /// No two present values differ.
    let isConstant: Bool

    init(_ values: ArraySlice<Double?>, unbiased: Bool) {
        let present = values.compactMap { $0 }
        count = present.count
        isConstant = present.allSatisfy { $0 == present[0] }
        let mean = present.isEmpty ? 0 : present.reduce(0, +) / Double(present.count)
        self.mean = mean
        let squares = present.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
        let divisor = present.count - (unbiased ? 1 : 0)
        standardDeviation = divisor > 0 ? (squares / Double(divisor)).squareRoot() : 0
    }
}
