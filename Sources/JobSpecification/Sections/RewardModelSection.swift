// SPDX-License-Identifier: Apache-2.0

/// `reward_model:` a model of the cluster that gives a scalar for prompt and response, behind the reward of that name.
package struct RewardModelSection: Equatable, Sendable {
    package let path: String
    package let compute: ComputeType

    /// Reads `reward_model:`, which belongs with the reward of that name.
    static func read(_ fields: YAMLFields, _ rewards: [RewardSection]) throws(JobError) -> RewardModelSection? {
        let isRewarded = rewards.contains { $0.name == "reward_model" }
        guard let reader = fields["reward_model"] else {
            if isRewarded { throw fields.error("reward_model", "the reward 'reward_model' needs one: path") }
            return nil
        }
        // Rows of the reward 'task' may name it.
        guard isRewarded || rewards.contains(where: { $0.name == "task" }) else {
            throw reader.error(.invalidValue, "is for the reward 'reward_model'; add it or remove this")
        }
        return try RewardModelSection(reader)
    }

    private init(_ reader: YAMLReader) throws(JobError) {
        let fields = try reader.fields(JobSchema.rewardModel, short: "path")
        path = try fields.required("path").filePath()
        compute = try fields.choice("compute")
    }

    var resolved: ResolvedValue { .section(["path": .string(path), "compute": .string(compute.rawValue)]) }
}
