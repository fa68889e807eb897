// SPDX-License-Identifier: Apache-2.0

/// What a reward function says of one rollout. Only ``ok(value:detail:)`` carries a number: a failure of the
/// machinery is never a reward.
package enum RewardOutcome: Equatable, Sendable {
    /// A finite reward and, for people, why.
    case ok(value: Double, detail: String)
    /// The verifier did not answer in time, in any of its attempts.
    case verifierTimeout
    /// The verifier could not do its work; the reason is one line.
    case infraError(reason: String)

    /// The reward; nil for anything but ``ok(value:detail:)``.
    package var value: Double? {
        if case .ok(let value, _) = self { value } else { nil }
    }
}

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

    package init(response: String, answer: String?, thinking: ThinkingExpectation = .unspecified) {
        self.response = response
        self.answer = answer
        self.thinking = thinking
    }
}
