// SPDX-License-Identifier: Apache-2.0

/// 1 for a response of the right form: one `<think>…</think>` block, then an answer, nothing else. The block
/// is empty if and only if thinking is off (where the template has usually written it into the prompt).
package struct FormatReward: RewardFunction {
    package static let name = "format"
    package static let ability = RewardAbility.formatFollowing
    package static let needsAnswer = false

    /// The prompt ends with `<think>`, so that responses start inside the block.
    private let opensInPrompt: Bool

    /// Options: `opens_in_prompt` (default false).
    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["opens_in_prompt"])
        opensInPrompt = try options.boolean("opens_in_prompt", default: false)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        if let problem = problem(sample) { return .ok(value: 0, detail: problem) }
        return .ok(value: 1, detail: "well formed")
    }

    private func problem(_ sample: RewardSample) -> String? {
        let block: ThinkingBlock
        do throws(ThinkingBlock.Problem) {
            block = try ThinkingBlock(sample.response, sample.thinking)
        } catch { return error.rawValue }
        let hasOpenTag = sample.response.contains(ThinkingBlock.openTag)
        if let thinking = block.thinking {
            if hasOpenTag == opensInPrompt {
                return hasOpenTag ? "the opening tag is repeated" : "the opening tag is missing"
            }
            let isEmpty = thinking.trimmed.isEmpty
            if sample.thinking == .on, isEmpty { return "the thinking is empty" }
            if sample.thinking == .off, !isEmpty { return "there is thinking although it is off" }
        }
        if block.answer.trimmed.isEmpty { return "there is no answer" }
        for marker in ["<|im_start|>", "<|im_end|>", "<|endoftext|>"] where sample.response.contains(marker) {
            return "\(marker) inside the response"
        }
        return nil
    }
}
