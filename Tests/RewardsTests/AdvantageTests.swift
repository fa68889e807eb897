// SPDX-License-Identifier: Apache-2.0
import Foundation
import Rewards
import TestSupport
import Testing

@Suite("Group-relative advantages") struct AdvantageTests {
    private struct Cases: Decodable {
        struct Case: Decodable {
            let variant: String
            let groups: Int
            let G: Int
            let scale_rewards: String
            let aggregation: String
            let reward_weights: [Double]?
            let rewards: [[Double?]]
            let advantages: [Double]
            let frac_reward_zero_std: Double
        }
        let cases: [Case]
    }

    @Test("agree with TRL on every stored case")
    func trl() throws {
        let data = try Data(contentsOf: Fixtures.url("grpo/advantage_cases.json"))
        let cases = try JSONDecoder().decode(Cases.self, from: data).cases
        #expect(cases.count > 100)
        for item in cases {
            let estimator = GroupRelativeAdvantage(
                scale: try #require(.init(rawValue: item.scale_rewards)), epsilon: 1e-4,
                aggregation: try #require(.init(rawValue: item.aggregation)))
            let batch = estimator.advantages(
                rewards: item.rewards, weights: item.reward_weights, groupSize: item.G)
            // TRL computes in fp32, which holds rewards around 1 that differ by 1e-6 to some percent of the
            // difference.
            let tolerance = ["large", "tiny_spread"].contains(item.variant) ? 4e-2 : 1e-4
            #expect(batch.advantages.count == item.advantages.count)
            for (ours, theirs) in zip(batch.advantages, item.advantages) {
                #expect(
                    abs(ours - theirs) <= tolerance,
                    "\(item.variant), \(item.scale_rewards), \(item.aggregation)")
            }
            let zeroCount = batch.hasZeroVariance.count { $0 }
            // TRL's fraction counts zeros of the deviation that divides; it is ours for whole groups alone.
            let dividesByGroup = item.scale_rewards == "group" && item.aggregation == "sum_then_normalize"
            if tolerance == 1e-4, dividesByGroup, item.rewards.allSatisfy({ !$0.contains(nil) }) {
                #expect(
                    abs(Double(zeroCount) / Double(item.groups) - item.frac_reward_zero_std) < 1e-6,
                    "\(item.variant), \(item.scale_rewards), \(item.aggregation)")
            }
        }
    }

    @Test("presets, by hand")
    func presets() {
        let rewards: [[Double?]] = [[1, 0, 0, 1]]
        let deviation = (1.0 / 3).squareRoot()
        #expect(
            GroupRelativeAdvantage.trl.advantages(rewards: rewards, groupSize: 4).advantages
                == [1, -1, -1, 1].map { $0 * 0.5 / (deviation + 1e-4) })
        #expect(
            GroupRelativeAdvantage(scale: .group, unbiased: false, epsilon: 0)
                .advantages(rewards: rewards, groupSize: 4).advantages == [1, -1, -1, 1])
        #expect(
            GroupRelativeAdvantage.drGRPO.advantages(rewards: rewards, groupSize: 4).advantages
                == [0.5, -0.5, -0.5, 0.5])
        #expect(GroupRelativeAdvantage.verl.advantages(rewards: [[0.7]], groupSize: 1).advantages == [0.7])
        #expect(GroupRelativeAdvantage.trl.advantages(rewards: [[0.7]], groupSize: 1).advantages == [0])
    }

    @Test("equal rewards give exactly 0, whatever their sum rounds to")
    func zeroVariance() {
        let batch = GroupRelativeAdvantage(scale: .group, epsilon: 0)
            .advantages(rewards: [Array(repeating: 0.1, count: 7)], groupSize: 7)
        #expect(batch.advantages == Array(repeating: 0, count: 7))
        #expect(batch.hasZeroVariance == [true])
    }

    private func report(_ outcome: RewardOutcome) -> RewardReport {
        RewardReport([outcome], terms: [RewardTerm("x")])
    }
    private func ok(_ value: Double) -> RewardReport { report(.ok(value: value, detail: "")) }

    @Test("failed responses leave their group or take it along")
    func failures() {
        let reports = [
            ok(1), report(.verifierTimeout), ok(0), report(.infrastructureError(reason: "no disk")),
        ]
        let estimator = GroupRelativeAdvantage.drGRPO
        let kept = GroupSelection(onFailure: .dropMember).judge(reports, weights: [1], estimator)
        #expect(kept.rewards == [1, nil, 0, nil])
        #expect(kept.advantages == [0.5, 0, -0.5, 0])
        #expect(kept.drops == [nil, .failed, nil, .failed])
        let dropped = GroupSelection(onFailure: .dropGroup).judge(reports, weights: [1], estimator)
        #expect(dropped.drops == [.failedSibling, .failed, .failedSibling, .failed])
        #expect(dropped.advantages == [0, 0, 0, 0])
        #expect(dropped.rewards == [nil, nil, nil, nil])
        #expect(!dropped.hasZeroVariance)
    }

    @Test("truncated responses count by policy")
    func truncated() {
        let reports = [ok(1), report(.truncated(value: 0, detail: "")), ok(0.5)]
        let estimator = GroupRelativeAdvantage.drGRPO
        let kept = GroupSelection(keepsTruncated: true).judge(reports, weights: [1], estimator)
        #expect(kept.advantages == [0.5, -0.5, 0])
        #expect(kept.drops == [nil, nil, nil])
        let dropped = GroupSelection(keepsTruncated: false).judge(reports, weights: [1], estimator)
        #expect(dropped.advantages == [0.25, 0, -0.25])
        #expect(dropped.drops == [nil, .truncated, nil])
    }

    @Test("groups without a difference are dropped by policy; a lone survivor always is")
    func noSignal() {
        let estimator = GroupRelativeAdvantage.trl
        let flat = [ok(1), ok(1)]
        #expect(
            GroupSelection(dropsZeroVariance: false).judge(flat, weights: [1], estimator).drops == [nil, nil])
        let judged = GroupSelection(dropsZeroVariance: true).judge(flat, weights: [1], estimator)
        #expect(judged.drops == [.zeroVariance, .zeroVariance])
        #expect(judged.hasZeroVariance)
        let alone = GroupSelection().judge([ok(1), report(.verifierTimeout)], weights: [1], .verl)
        #expect(alone.drops == [.alone, .failed])
        #expect(alone.advantages == [0, 0])
        // A group of one by design is no lone survivor: verl's preset trains on its reward.
        #expect(GroupSelection().judge([ok(0.7)], weights: [1], .verl).advantages == [0.7])
    }

    @Test("weights apply per term")
    func weights() {
        let terms = [RewardTerm("a"), RewardTerm("b", weight: 0.5)]
        let reports = [(1.0, 0.0), (0.0, 1.0)].map { pair in
            RewardReport([.ok(value: pair.0, detail: ""), .ok(value: pair.1, detail: "")], terms: terms)
        }
        let judged = GroupSelection().judge(reports, weights: [1, 0.5], .drGRPO)
        #expect(judged.rewards == [1, 0.5])
        #expect(judged.advantages == [0.25, -0.25])
    }
}
