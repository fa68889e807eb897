// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// The reward that the row itself names: column `reward`, with options in `reward_options` (a JSON object of texts). Lets
/// one job train on many tasks, each with its own criterion (technical report, 4.4: over 20 tasks). Option `default`: the
/// reward of rows without that column.
package struct TaskReward: RewardFunction {
    package static let name = "task"
    package static let ability = RewardAbility.specialised
    package static let needsAnswer = false

    /// The reward of rows that name none; nil: every row names one.
    let fallback: String?

    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["default"])
        fallback = options.text("default")
        guard let fallback else { return }
        guard ![Self.name, JudgeReward.name, ModelReward.name].contains(fallback) else {
            throw RewardOptionError("reward 'task': option 'default' cannot be '\(fallback)'; name it in the rows")
        }
        _ = try RewardRegistry.named(fallback)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        guard let name = sample.metadata["reward"] ?? fallback, name != Self.name else {
            return .infrastructureError(reason: "reward 'task' needs the name of a reward in the column 'reward'")
        }
        let options = sample.metadata["reward_options"].flatMap {
            try? JSONDecoder().decode([String: String].self, from: Data($0.utf8))
        }
        do throws(RewardOptionError) {
            return try RewardRegistry.named(name, options: options ?? [:]).evaluate(sample)
        } catch { return .infrastructureError(reason: error.description) }
    }
}
