// SPDX-License-Identifier: Apache-2.0

/// Whose defaults an advantage section starts from.
package enum AdvantagePreset: String, CaseIterable, Sendable {
    /// (r - mean) / (std + 1e-4), std with n - 1.
    case trl
    /// (r - mean) / (std + 1e-6), std with n - 1; a group of one keeps its reward.
    case verl
    /// r - mean.
    case drGRPO = "dr_grpo"
}

/// Whose standard deviation divides (TRL's `scale_rewards`).
package enum RewardScale: String, CaseIterable, Sendable {
    case group, batch, none
}

/// In which order several rewards are combined (TRL's `multi_objective_aggregation`).
package enum RewardAggregation: String, CaseIterable, Sendable {
    case sumThenNormalize = "sum_then_normalize"
    case normalizeThenSum = "normalize_then_sum"
}

/// `advantage:` how rewards of a group become advantages.
package struct AdvantageSection: Equatable, Sendable {
    package let preset: AdvantagePreset
    package let scale: RewardScale
    /// Divide the variance by n - 1 (true) or n.
    package let unbiased: Bool
    package let epsilon: Double
    package let aggregation: RewardAggregation

    /// Reads the section; a preset's name alone is enough.
    package init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.advantage, short: "preset")
        preset = try fields.choice("preset")
        scale = try fields.choice("scale_rewards", default: preset == .drGRPO ? RewardScale.none : .group)
        unbiased = try fields.boolean("unbiased")
        epsilon = try fields.number("epsilon", default: preset == .trl ? 1e-4 : 1e-6)
        aggregation = try fields.choice("multi_objective_aggregation")
        if aggregation == .normalizeThenSum, scale != .group {
            throw fields.error(
                "multi_objective_aggregation",
                "normalize_then_sum needs scale_rewards: group, not \(scale.rawValue)")
        }
    }

    package var resolved: ResolvedValue {
        .section([
            "preset": .string(preset.rawValue), "scale_rewards": .string(scale.rawValue),
            "unbiased": .boolean(unbiased), "epsilon": .number(epsilon),
            "multi_objective_aggregation": .string(aggregation.rawValue),
        ])
    }
}
