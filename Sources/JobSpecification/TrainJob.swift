// SPDX-License-Identifier: Apache-2.0

/// What a training job learns from.
package enum TrainingMethod: String, CaseIterable, Sendable {
    /// Supervised fine-tuning: cross-entropy on the answers of the data.
    case sft
    /// Group-relative policy optimization: rewards of the policy's own responses.
    case grpo
    /// On-policy distillation: a teacher's distribution over the policy's own responses.
    case distill
    /// A reward model: Bradley-Terry on pairs of responses of which one is preferred.
    case reward

    /// Whether only data is learned from, whatever else the job says.
    var isSupervised: Bool { self == .sft || self == .reward }
}

/// `kind: train`: optimizer steps on a model, with rollouts where the method wants them.
package struct TrainJob: Equatable, Sendable {
    package let name: String
    package let model: ModelSection
    package let method: TrainingMethod
    package let teacher: DistillationSection?
    /// A frozen model that the policy is kept near; nil is the model that training starts from.
    package let reference: ModelSection?
    /// One file, or several with weights.
    package let data: [DataSection]
    /// Optimizer steps.
    package let stepCount: Int
    /// Rows of data per batch: prompts of a batch of rollouts, or sequences of a step of SFT.
    package let rowsPerStep: Int
    /// Responses per prompt (G).
    package let groupSize: Int
    /// Optimizer steps per batch of rollouts.
    package let updatesPerBatch: Int
    package let sampling: SamplingSection
    package let thinking: ThinkingSection
    package let chatTemplate: ChatTemplateSection
    /// Whether SFT learns every turn of the assistant, as TRL's option of this name; otherwise the last answer alone.
    package let learnsAllTurns: Bool
    package let environment: EnvironmentSection?
    package let judge: JudgeSection?
    package let rewardModel: RewardModelSection?
    package let seed: Int
    package let rewards: [RewardSection]
    package let advantage: AdvantageSection
    package let droppedGroups: DroppedGroupsSection
    /// Share of the groups that may fail before the job does.
    package let failedGroupsMax: Double
    package let overlong: OverlongSection?
    /// Times that a batch may generate `rows_per_step` groups more, to replace groups without a difference (dynamic
    /// sampling, Yu et al. 2025); 0: never.
    package let refillMax: Int
    /// Whether routers take over the experts that generation chose: for updates after the first of a batch.
    package let replaysRoutes: Bool
    package let loss: LossSection
    /// Coefficient of the mean of (r_chosen + r_rejected)², which keeps a reward model's scalars around 0 (Eisenstein et
    /// al. 2023).
    package let centerRewardsCoefficient: Double
    package let optimizer: OptimizerSection
    /// Coefficient of the router's load-balancing loss.
    package let routerAuxiliaryCoefficient: Double
    /// Tokens of a cell at most (a longer sequence is a cell of its own), and cells of a wave.
    package let cellTokens: Int
    package let waveCells: Int
    /// Whether attention is computed again on the way back instead of kept: less memory, more time.
    package let recomputesActivations: Bool
    package let checkpointEvery: Int
    package let checkpointKeep: Int
    package let resources: ResourcesSection
    package let output: String

    /// Whether the policy writes the texts that it is trained on.
    package var generates: Bool { !method.isSupervised && teacher?.isOnPolicy != false }

    init(_ fields: YAMLFields, rewardCheck: RewardCheck?) throws(JobError) {
        name = try fields.required("name").jobName()
        model = try ModelSection(fields.required("model"))
        let method: TrainingMethod = try fields.required("method").choice()
        self.method = method
        teacher = if let reader = fields["teacher"] { try DistillationSection(reader) } else { nil }
        reference = if let reader = fields["reference"] { try ModelSection(reader) } else { nil }
        data = try DataSection.mixture(fields.required("data"))
        stepCount = try fields.required("steps").integer()
        rowsPerStep = try fields.integer("rows_per_step")
        groupSize = try fields.integer(
            "group_size", default: method == .grpo || fields["reward"] != nil ? 8 : 1)
        updatesPerBatch = try fields.integer("updates_per_batch")
        sampling = try SamplingSection(fields.section("sampling"))
        thinking = try ThinkingSection(fields.section("thinking"), maxNewTokens: sampling.maxNewTokens)
        chatTemplate = try ChatTemplateSection(fields, thinking: thinking.mode)
        learnsAllTurns = try fields.boolean("assistant_only_loss")
        environment = if let reader = fields["environment"] { try EnvironmentSection(reader) } else { nil }
        seed = try fields.integer("seed")
        rewards = if let reader = fields["reward"] { try RewardSection.list(reader, rewardCheck) } else { [] }
        judge = try JudgeSection.read(fields, rewards)
        rewardModel = try RewardModelSection.read(fields, rewards)
        advantage = try AdvantageSection(fields.section("advantage"))
        droppedGroups = try DroppedGroupsSection(fields.section("dropped_groups"))
        failedGroupsMax = try fields.number("max_failed_groups")
        overlong =
            if let reader = fields["overlong"] { try OverlongSection(reader, maxNewTokens: sampling.maxNewTokens) } else
            {
                nil
            }
        refillMax = try fields["dynamic_sampling"]?.fields(JobSchema.dynamicSampling).integer("refills") ?? 0
        replaysRoutes = try fields.boolean("routing_replay")
        loss = try LossSection(fields.section("loss"))
        centerRewardsCoefficient = try fields.number("center_rewards_coefficient")
        optimizer = try OptimizerSection(fields.section("optimizer"))
        routerAuxiliaryCoefficient = try fields.number("router_aux_loss_coef")
        cellTokens = try fields.integer("cell_tokens")
        waveCells = try fields.integer("wave_cells")
        recomputesActivations = try fields.boolean("recompute_activations")
        let checkpoint = try fields.section("checkpoint").fields(JobSchema.checkpoint)
        checkpointEvery = try checkpoint.integer("every")
        checkpointKeep = try checkpoint.integer("keep")
        resources = try ResourcesSection(fields.section("resources"))
        output = try fields.required("output").filePath()
        try check(fields)
    }

    private func check(_ fields: YAMLFields) throws(JobError) {
        if model.replicas != 1 {
            throw fields.error("model", "a model in training has one copy of each expert; remove model.replicas")
        }
        if model.yarnFactor != nil {
            throw fields.error(
                "model", "yarn_factor is for generation and scoring; train on the checkpoint's own positions")
        }
        if stepCount % updatesPerBatch != 0 {
            throw fields.error("steps", "\(stepCount) is no multiple of updates_per_batch \(updatesPerBatch)")
        }
        if generates, rowsPerStep % updatesPerBatch != 0 {
            throw fields.error(
                "rows_per_step", "\(rowsPerStep) is no multiple of updates_per_batch \(updatesPerBatch)")
        }
        if method != .distill, data.contains(where: { $0.teacher != nil }) {
            throw fields.error("data", "method \(method.rawValue) has no teachers; remove teacher from its files")
        }
        if !generates {
            for key in JobSchema.generatingKeys where fields[key] != nil {
                let text = method.isSupervised ? "method \(method.rawValue)" : "teacher.on_policy: false"
                throw fields.error(key, "\(text) generates nothing; remove it")
            }
        }
        if generates || method == .reward, fields["assistant_only_loss"] != nil {
            throw fields.error("assistant_only_loss", "is for the data's answers, that is for method sft; remove it")
        }
        if method != .reward, fields["center_rewards_coefficient"] != nil {
            throw fields.error("center_rewards_coefficient", "is for method reward; remove it")
        }
        switch method {
        case .sft, .reward:
            if teacher != nil {
                throw fields.error("teacher", "method \(method.rawValue) has none; use method distill")
            }
        case .grpo:
            if fields["teacher"] != nil { throw fields.error("teacher", "method grpo has none; use method distill") }
            if reference != nil, loss.klCoefficient == 0 {
                throw fields.error("reference", "loss.kl_coef is 0, so it would not be used; set it or remove this")
            }
            guard !rewards.isEmpty else { throw fields.error("reward", "method grpo needs a reward") }
            guard groupSize > 1 else { throw fields.error("group_size", "a group of one has no relative advantage") }
        case .distill:
            guard teacher != nil else { throw fields.error("teacher", "method distill needs a teacher") }
            if fields["reference"] != nil {
                throw fields.error("reference", "method distill has none; remove it")
            }
            if rewards.isEmpty {
                for key in ["overlong", "dynamic_sampling"] where fields[key] != nil {
                    throw fields.error(key, "needs a reward")
                }
            } else if groupSize < 2 {
                throw fields.error("group_size", "a group of one has no relative advantage")
            }
        }
        if generates, sampling.temperature == 0 {
            throw fields.error("sampling", "the policy must be sampled to be trained; set sampling.temperature above 0")
        }
    }

    package var resolved: ResolvedValue {
        .section([
            "kind": .string("train"), "name": .string(name), "model": model.resolved,
            "method": .string(method.rawValue),
            "teacher": teacher?.resolved, "reference": reference?.resolved, "data": DataSection.resolved(data),
            "steps": .integer(stepCount),
            "rows_per_step": .integer(rowsPerStep), "group_size": !generates ? nil : .integer(groupSize),
            "updates_per_batch": !generates ? nil : .integer(updatesPerBatch),
            "sampling": !generates ? nil : sampling.resolved, "thinking": thinking.resolved,
            "environment": environment?.resolved, "judge": judge?.resolved,
            "reward_model": rewardModel?.resolved, "seed": .integer(seed),
            "reward": rewards.isEmpty ? nil : .list(rewards.map(\.resolved)), "advantage": advantage.resolved,
            "dropped_groups": droppedGroups.resolved,
            "max_failed_groups": !generates ? nil : .number(failedGroupsMax), "overlong": overlong?.resolved,
            "dynamic_sampling": refillMax == 0 ? nil : .section(["refills": .integer(refillMax)]),
            "routing_replay": !generates ? nil : .boolean(replaysRoutes),
            "loss": !generates ? nil : loss.resolved,
            "center_rewards_coefficient": method == .reward ? .number(centerRewardsCoefficient) : nil,
            "optimizer": optimizer.resolved, "router_aux_loss_coef": .number(routerAuxiliaryCoefficient),
            "cell_tokens": .integer(cellTokens), "wave_cells": .integer(waveCells),
            "recompute_activations": .boolean(recomputesActivations),
            "checkpoint": .section(["every": .integer(checkpointEvery), "keep": .integer(checkpointKeep)]),
            "assistant_only_loss": generates || method == .reward ? nil : .boolean(learnsAllTurns),
            "chat_template": chatTemplate.path.map { .string($0) },
            "chat_template_kwargs": chatTemplate.resolvedArguments,
            "chat_template_date": chatTemplate.date.map { .string($0) },
            "resources": resources.resolved, "output": .string(output),
        ])
    }
}
