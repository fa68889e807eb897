// SPDX-License-Identifier: Apache-2.0
internal import ClusterProtocol
internal import JobSpecification
internal import Rewards

/// Rewards and advantages of one group, and who of it may be trained on.
struct GroupJudgement {
    /// Weighted sums; nil where the response has no usable reward.
    let rewards: [Double?]
    let advantages: [Double]
    /// Why a response is not for training; nil: it is.
    let drops: [String?]
    let hasZeroVariance: Bool

    init(_ job: RolloutJob, _ members: [WireRolloutRecord]) {
        self.init(
            rewards: job.rewards, advantage: job.advantage, droppedGroups: job.droppedGroups, members)
    }

    init(
        rewards sections: [RewardSection], advantage section: AdvantageSection,
        droppedGroups policy: DroppedGroupsSection, overlong: OverlongSection? = nil, _ members: [WireRolloutRecord]
    ) {
        guard !sections.isEmpty else {
            rewards = members.map { _ in nil }
            advantages = members.map { _ in 0 }
            drops = members.map { $0.outcome == "truncated" && policy.truncated == .drop ? "truncated" : nil }
            hasZeroVariance = false
            return
        }
        let estimator = GroupRelativeAdvantage(
            scale: .init(rawValue: section.scale.rawValue)!, unbiased: section.unbiased, epsilon: section.epsilon,
            aggregation: .init(rawValue: section.aggregation.rawValue)!,
            singletonKeepsReward: section.preset == .verl)
        let selection = GroupSelection(
            dropsZeroVariance: policy.policy == .dropZeroVariance, keepsTruncated: policy.truncated == .keep,
            onFailure: .init(rawValue: policy.failed.rawValue)!)
        var terms = sections.map { RewardTerm($0.name, weight: $0.weight, options: $0.options) }
        if overlong != nil { terms.append(RewardTerm(WireRolloutRecord.overlongName, weight: 1)) }
        let judgement = selection.judge(
            members.map { $0.report(terms, overlong) }, weights: terms.map(\.weight), estimator)
        rewards = judgement.rewards
        advantages = judgement.advantages
        drops = judgement.drops.map { $0?.rawValue }
        hasZeroVariance = judgement.hasZeroVariance
    }
}

extension WireRolloutRecord {
    /// Of the term that is no verifier's.
    fileprivate static let overlongName = "overlong"

    /// What the verifiers said, as it was journaled.
    fileprivate func report(_ terms: [RewardTerm], _ overlong: OverlongSection?) -> RewardReport {
        switch outcome {
        case "ok", "truncated":
            let outcomes = terms.map { term -> RewardOutcome in
                let shaped =
                    term.name == Self.overlongName ? overlong?.value(tokenCount: tokens.count / 4) : nil
                guard let value = shaped ?? rewards.first(where: { $0.name == term.name })?.value else {
                    return .infrastructureError(reason: "no value of \(term.name)")
                }
                return outcome == "ok" ? .ok(value: value, detail: "") : .truncated(value: value, detail: "")
            }
            return RewardReport(outcomes, terms: terms)
        case "verifier_timeout": return RewardReport(all: .verifierTimeout, terms: terms)
        default: return RewardReport(all: .infrastructureError(reason: outcomeDetail), terms: terms)
        }
    }
}

/// Lengths, ends and rewards of responses, under TRL's names.
struct ResponseTotals {
    private(set) var count = 0
    private(set) var tokenCount = 0
    private var shortest = Int.max
    private var longest = 0
    private var clippedCount = 0
    private var truncatedCount = 0
    private var failedCount = 0
    /// By the name of the reward: values and how often each reward had one.
    private var rewards: [String: [Double]] = [:]

    mutating func add(_ member: WireRolloutRecord) {
        let tokens = member.tokens.count / 4
        count += 1
        tokenCount += tokens
        shortest = min(shortest, tokens)
        longest = max(longest, tokens)
        if member.finishReason != "stop" { clippedCount += 1 }
        switch member.outcome {
        case "ok": break
        case "truncated": truncatedCount += 1
        default: failedCount += 1
        }
        for reward in member.rewards where reward.name != "total" {
            rewards[reward.name, default: []].append(reward.value)
        }
    }

    /// Nothing where there are no responses.
    var figures: [String: Double] {
        guard count > 0 else { return [:] }
        var figures = [
            "completions/mean_length": Double(tokenCount) / Double(count),
            "completions/min_length": Double(shortest), "completions/max_length": Double(longest),
            "completions/clipped_ratio": Double(clippedCount) / Double(count),
            "completions/truncated_ratio": Double(truncatedCount) / Double(count),
            "completions/failed_ratio": Double(failedCount) / Double(count),
        ]
        for (name, values) in rewards {
            let mean = values.reduce(0, +) / Double(values.count)
            figures["rewards/\(name)/mean"] = mean
            figures["rewards/\(name)/std"] = Self.deviation(values, mean)
        }
        return figures
    }

    /// The sample's standard deviation; 0 of a single value.
    static func deviation(_ values: [Double], _ mean: Double) -> Double {
        (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(max(1, values.count - 1))).squareRoot()
    }
}

/// The run's totals, under TRL's names.
struct RunSummary {
    private var responses = ResponseTotals()
    private var rewardSum = 0.0
    private var rewardCount = 0
    private var groupCount = 0
    private var failedGroupCount = 0
    private var flatGroupCount = 0
    private var entropySum = 0.0
    private var trajectories = TrajectoryTotals()
    var scalars = ScalarTotals()
    /// Per group the responses with a reward, and those with the full one; nil once a reward is neither 0 nor 1.
    private var verdicts: [(count: Int, correct: Int)]? = []

    mutating func addFailedGroup() { failedGroupCount += 1 }

    mutating func add(_ members: [WireRolloutRecord], _ judged: GroupJudgement) {
        groupCount += 1
        if judged.hasZeroVariance { flatGroupCount += 1 }
        let values = judged.rewards.compactMap { $0 }
        if values.allSatisfy({ $0 == 0 || $0 == 1 }), !values.isEmpty {
            verdicts?.append((values.count, values.count { $0 == 1 }))
        } else {
            verdicts = nil
        }
        for (member, reward) in zip(members, judged.rewards) {
            responses.add(member)
            trajectories.add(member)
            for entropy in member.entropies.floatElements { entropySum += Double(entropy) }
            if let reward {
                rewardSum += reward
                rewardCount += 1
            }
        }
    }

    var line: String {
        var line = JSONLine()
        for (name, value) in responses.figures { line.put(name, value) }
        if responses.count > 0 {
            let tokenCount = responses.tokenCount
            line.put("entropy", tokenCount > 0 ? entropySum / Double(tokenCount) : 0)
            line.put("num_tokens", tokenCount)
            line.put("frac_reward_zero_std", Double(flatGroupCount) / Double(max(1, groupCount)))
        }
        if groupCount + failedGroupCount > 0 {
            line.put("frac_groups_failed", Double(failedGroupCount) / Double(groupCount + failedGroupCount))
        }
        for (name, value) in trajectories.figures { line.put(name, value) }
        for (name, value) in scalars.figures { line.put(name, value) }
        if rewardCount > 0 { line.put("reward", rewardSum / Double(rewardCount)) }
        for k in [1, 8, 64] {
            guard let verdicts, !verdicts.isEmpty else { break }
            let estimates = verdicts.compactMap { PassAtK.estimate(count: $0.count, correct: $0.correct, k: k) }
            // Only where every prompt has enough answers: a mean over some prompts would be another figure.
            guard estimates.count == verdicts.count else { break }
            line.put("pass@\(k)", estimates.reduce(0, +) / Double(estimates.count))
        }
        return line.text
    }
}
