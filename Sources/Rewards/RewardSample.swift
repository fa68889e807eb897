// SPDX-License-Identifier: Apache-2.0

/// What the rollout was asked to do about thinking.
package enum ThinkingExpectation: String, Codable, CaseIterable, Sendable {
    /// The response must hold a thinking block.
    case on
    /// The template closed the thinking block in the prompt.
    case off
    /// Either is fine.
    case unspecified
}

/// One response to be judged.
package struct RewardSample: Codable, Equatable, Sendable {
    /// Text generated after the prompt, without the end-of-turn token.
    package let response: String
    /// Reference answer of the prompt.
    package let answer: String?
    package let thinking: ThinkingExpectation
    /// The response hit its length limit.
    package let isTruncated: Bool
    /// Other columns of the prompt's row.
    package let metadata: [String: String]
    /// Of a response of several turns; ``response`` is the last of them.
    package let trajectory: Trajectory?
    /// What other models said of the response, by the reward that asked them.
    package let consulted: [String: String]

    /// A response of several turns with tools.
    package struct Trajectory: Codable, Equatable, Sendable {
        /// All turns with their observations.
        package let text: String
        package let state: EnvironmentState

        package init(text: String, state: EnvironmentState) {
            self.text = text
            self.state = state
        }
    }

    package init(
        response: String, answer: String?, thinking: ThinkingExpectation = .unspecified,
        isTruncated: Bool = false,
        metadata: [String: String] = [:], trajectory: Trajectory? = nil, consulted: [String: String] = [:]
    ) {
        self.consulted = consulted
        self.trajectory = trajectory
        self.response = response
        self.answer = answer
        self.thinking = thinking
        self.isTruncated = isTruncated
        self.metadata = metadata
    }
}
