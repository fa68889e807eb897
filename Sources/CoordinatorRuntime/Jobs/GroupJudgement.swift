// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import JobSpecification
internal import Rewards

/// Rewards and advantages of one group, and who of it may be trained on.
struct GroupJudgement {
    /// Weighted sums; nil where the response has no usable reward.
    let rewards: [Double?]
    let advantages: [Double]
    let isDropped: [Bool]
    let hasZeroVariance: Bool

    init(_ job: RolloutJob, _ members: [WireRolloutRecord]) {
        let isUsable = members.map { member in
            member.outcome == "ok" || (member.outcome == "truncated" && job.droppedGroups.truncated == .keep)
        }
        let values: [[Double?]] = job.rewards.map { reward in
            members.indices.map { index in
                isUsable[index] ? members[index].rewards.first { $0.name == reward.name }?.value : nil
            }
        }
        guard !values.isEmpty else {
            rewards = members.map { _ in nil }
            advantages = members.map { _ in 0 }
            isDropped = isUsable.map { !$0 }
            hasZeroVariance = false
            return
        }
        let section = job.advantage
        let batch = GroupRelativeAdvantage(
            scale: .init(rawValue: section.scale.rawValue)!, unbiased: section.unbiased, epsilon: section.epsilon,
            aggregation: .init(rawValue: section.aggregation.rawValue)!,
            singletonKeepsReward: section.preset == .verl
        ).advantages(rewards: values, weights: job.rewards.map(\.weight), groupSize: members.count)
        rewards = batch.rewards
        advantages = batch.advantages
        let isFlat = batch.hasZeroVariance[0]
        hasZeroVariance = isFlat
        isDropped = isUsable.indices.map { index in
            !isUsable[index] || batch.rewards[index] == nil || (isFlat && job.droppedGroups.policy == .dropZeroVariance)
        }
    }
}

/// The run's totals, under TRL's names.
struct RunSummary {
    private var count = 0
    private var tokenCount = 0
    private var clippedCount = 0
    private var rewardSum = 0.0
    private var rewardCount = 0
    private var groupCount = 0
    private var flatGroupCount = 0
    private var entropySum = 0.0

    mutating func add(_ members: [WireRolloutRecord], _ judged: GroupJudgement) {
        groupCount += 1
        if judged.hasZeroVariance { flatGroupCount += 1 }
        for (member, reward) in zip(members, judged.rewards) {
            count += 1
            tokenCount += member.tokens.count / 4
            if member.finishReason != "stop" { clippedCount += 1 }
            for entropy in member.entropies.floatElements { entropySum += Double(entropy) }
            if let reward {
                rewardSum += reward
                rewardCount += 1
            }
        }
    }

    var line: String {
        var line = JSONLine()
        if count > 0 {
            line.put("completions/mean_length", Double(tokenCount) / Double(count))
            line.put("completions/clipped_ratio", Double(clippedCount) / Double(count))
            line.put("entropy", tokenCount > 0 ? entropySum / Double(tokenCount) : 0)
            line.put("num_tokens", tokenCount)
            line.put("frac_reward_zero_std", Double(flatGroupCount) / Double(max(1, groupCount)))
        }
        if rewardCount > 0 { line.put("reward", rewardSum / Double(rewardCount)) }
        return line.text
    }
}
