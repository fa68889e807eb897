// SPDX-License-Identifier: Apache-2.0

/// `kind: rollout`: G responses to each prompt, their rewards and advantages, and the teacher's
/// log-probabilities.
package struct RolloutJob: Equatable, Sendable {
    package let name: String
    package let model: ModelSection
    package let teacher: TeacherSection?
    package let data: DataSection
    /// Responses per prompt (G).
    package let groupSize: Int
    package let sampling: SamplingSection
    package let thinking: ThinkingSection
    package let chatTemplate: ChatTemplateSection
    package let environment: EnvironmentSection?
    package let judge: JudgeSection?
    package let rewardModel: RewardModelSection?
    /// Key of every random stream of the job.
    package let seed: Int
    /// Version of the policy's weights, recorded with every token.
    package let policyVersion: Int
    /// In the order written; empty when nothing is rewarded.
    package let rewards: [RewardSection]
    package let advantage: AdvantageSection
    package let droppedGroups: DroppedGroupsSection
    /// Share of the groups that may fail before the job does.
    package let failedGroupsMax: Double
    package let resources: ResourcesSection
    /// Directory of the run.
    package let output: String

    init(_ fields: YAMLFields, rewardCheck: RewardCheck?) throws(JobError) {
        name = try fields.required("name").jobName()
        model = try ModelSection(fields.required("model"))
        teacher = if let reader = fields["teacher"] { try TeacherSection(reader) } else { nil }
        data = try DataSection(fields.required("data"))
        groupSize = try fields.integer("group_size", default: 8)
        sampling = try SamplingSection(fields.section("sampling"))
        thinking = try ThinkingSection(fields.section("thinking"), maxNewTokens: sampling.maxNewTokens)
        chatTemplate = try ChatTemplateSection(fields, thinking: thinking.mode)
        environment = if let reader = fields["environment"] { try EnvironmentSection(reader) } else { nil }
        seed = try fields.integer("seed")
        policyVersion = try fields.integer("policy_version")
        rewards =
            if let reader = fields["reward"] {
                try RewardSection.list(reader, rewardCheck)
            } else { [] }
        judge = try JudgeSection.read(fields, rewards)
        rewardModel = try RewardModelSection.read(fields, rewards)
        advantage = try AdvantageSection(fields.section("advantage"))
        droppedGroups = try DroppedGroupsSection(fields.section("dropped_groups"))
        failedGroupsMax = try fields.number("max_failed_groups")
        resources = try ResourcesSection(fields.section("resources"))
        output = try fields.required("output").filePath()
        if sampling.temperature == 0, groupSize > 1 {
            throw fields.error(
                "group_size",
                "the \(groupSize) responses of a group are equal at sampling.temperature 0: "
                    + "set group_size: 1 or a higher temperature")
        }
    }

    /// Every setting, defaults included.
    package var resolved: ResolvedValue {
        .section([
            "kind": .string("rollout"), "name": .string(name), "model": model.resolved,
            "teacher": teacher?.resolved, "data": data.resolved, "group_size": .integer(groupSize),
            "sampling": sampling.resolved, "thinking": thinking.resolved,
            "environment": environment?.resolved, "judge": judge?.resolved,
            "reward_model": rewardModel?.resolved, "seed": .integer(seed),
            "policy_version": .integer(policyVersion),
            "reward": rewards.isEmpty ? nil : .list(rewards.map(\.resolved)), "advantage": advantage.resolved,
            "dropped_groups": droppedGroups.resolved, "max_failed_groups": .number(failedGroupsMax),
            "chat_template": chatTemplate.path.map { .string($0) },
            "chat_template_kwargs": chatTemplate.resolvedArguments,
            "chat_template_date": chatTemplate.date.map { .string($0) },
            "resources": resources.resolved,
            "output": .string(output),
        ])
    }
}

extension YAMLReader {
    /// A job's name: it becomes part of file names.
    package func jobName() throws(JobError) -> String {
        let name = try string()
        let isWord = name.utf8.allSatisfy {
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.".utf8.contains($0)
        }
        guard isWord, name.first != ".", name.first != "-" else {
            throw error(.invalidValue, "'\(name)' is not a name of letters, digits, '-', '_' and '.'")
        }
        return name
    }
}
