// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol
package import Rewards

/// What the reward functions of a job say of one response.
package struct Judgement: Sendable, Equatable {
    /// `ok`, `verifier_timeout` or `infra_error`; an infrastructure failure is never a reward.
    package var outcome: String
    package var detail: String
    /// In the order of the job's rewards; functions that do not apply to the response are left out.
    package var rewards: [(name: String, value: Double)]

    package init(outcome: String = "ok", detail: String = "", rewards: [(name: String, value: Double)] = []) {
        self.outcome = outcome
        self.detail = detail
        self.rewards = rewards
    }

    package static func == (a: Self, b: Self) -> Bool {
        a.outcome == b.outcome && a.detail == b.detail && a.rewards.map(\.name) == b.rewards.map(\.name)
            && a.rewards.map(\.value) == b.rewards.map(\.value)
    }
}

/// One response to be judged.
package struct JudgedResponse: Sendable {
    /// With its thinking; the last turn of a trajectory.
    package var text: String
    package var isTruncated: Bool
    /// The row of data as JSON.
    package var row: String
    /// What the prompt asked of thinking: on, off or default.
    package var thinking: String
    /// All turns with their observations, and what the calls left behind; nil for a single answer.
    package var trajectory: (text: String, state: EnvironmentState)?
    /// What other models said of it, by the reward that asked them.
    package var consulted: [String: String] = [:]
}

/// Computes rewards and runs tools. May take long; called on threads made for it, several at once.
package protocol ResponseJudge: Sendable {
    func judge(_ rewards: [WireRewardSettings], _ response: JudgedResponse) -> Judgement
    func act(_ request: EnvironmentRequest) -> EnvironmentReply
}
