// SPDX-License-Identifier: Apache-2.0
import ClusterProtocol
import Foundation
import Rewards
import WorkerRuntime

/// The reward functions of this build, as jobs name them.
enum RewardCatalog {
    static var names: [String] { RewardRegistry.names }

    /// - Throws: one line about an unknown option.
    @Sendable static func check(_ name: String, _ options: [String: String]) throws {
        _ = try RewardRegistry.named(name, options: options)
    }

    /// What a worker asks for rewards.
    static func judge(threadCount: Int) throws -> any ResponseJudge { InProcessJudge() }
}

/// Evaluates rewards in this process.
private struct InProcessJudge: ResponseJudge {
    func judge(
        _ rewards: [WireRewardSettings], text: String, isTruncated: Bool, row: String, thinking: String
    ) -> Judgement {
        let fields = (try? JSONDecoder().decode([String: String].self, from: Data(row.utf8))) ?? [:]
        let sample = RewardSample(
            response: text, answer: fields["answer"], thinking: ThinkingExpectation(rawValue: thinking) ?? .unspecified)
        var judgement = Judgement()
        for reward in rewards {
            do {
                switch try RewardRegistry.named(reward.name, options: reward.options).evaluate(sample) {
                case .ok(let value, _), .truncated(let value, _): judgement.rewards.append((reward.name, value))
                case .verifierTimeout: return Judgement(outcome: "verifier_timeout", detail: reward.name)
                case .infrastructureError(let reason): return Judgement(outcome: "infra_error", detail: reason)
                }
            } catch { return Judgement(outcome: "infra_error", detail: String(describing: error)) }
        }
        return judgement
    }
}
