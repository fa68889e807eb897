// SPDX-License-Identifier: Apache-2.0

/// 1 for a response in the mode that the conversation asked for: its last `/think` or `/no_think` decides, thinking is the
/// default (Qwen3 technical report, 4.3). Thinking has text inside the block, its absence leaves the block empty or out.
package struct ThinkingModeReward: RewardFunction {
    package static let name = "thinking_mode"
    package static let ability = RewardAbility.formatFollowing
    package static let needsAnswer = false

    /// The row's column that the coordinator adds: the conversation's last flag, without its slash.
    package static let flagColumn = "last_flag"

    package init(options: RewardOptions) throws(RewardOptionError) { try options.requireOnly([]) }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        let block: ThinkingBlock
        do throws(ThinkingBlock.Problem) {
            block = try ThinkingBlock(sample.response, .unspecified)
        } catch { return .ok(value: 0, detail: error.rawValue) }
        guard !block.answer.trimmed.isEmpty else { return .ok(value: 0, detail: "there is no answer") }
        let wanted = sample.metadata[Self.flagColumn] != "no_think"
        let thinks = !(block.thinking ?? "").trimmed.isEmpty
        return .ok(value: wanted == thinks ? 1 : 0, detail: thinks ? "thinks" : "does not think")
    }
}
