// SPDX-License-Identifier: Apache-2.0
package import ClusterProtocol

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

/// Computes rewards. May take long; called on the verifier threads, several at once.
package protocol ResponseJudge: Sendable {
    /// - Parameters:
    ///   - text: the response, thinking included.
    ///   - row: the row of data as JSON.
    ///   - thinking: what the prompt asked of thinking: on, off or default.
    func judge(
        _ rewards: [WireRewardSettings], text: String, isTruncated: Bool, row: String, thinking: String
    ) -> Judgement
}
