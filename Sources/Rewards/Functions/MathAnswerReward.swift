// SPDX-License-Identifier: Apache-2.0

/// 1 when the final answer of the response means the reference answer. Only text after the thinking counts; several
/// different answers, an unclosed box or an unclosed thinking block are 0.
package struct MathAnswerReward: RewardFunction {
    package static let name = "math_answer"

    private let requiresBox: Bool

    /// Options: `require_boxed` (default false).
    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["require_boxed"])
        requiresBox = try options.boolean("require_boxed", default: false)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        guard let answer = sample.answer, !answer.trimmed.isEmpty else {
            return .infraError(reason: "reward 'math_answer' needs a reference answer and the row has none")
        }
        let reference: String
        do throws(MathAnswer.Problem) {
            reference = try MathAnswer.final(in: answer)
        } catch {
            return .infraError(reason: "the reference answer cannot be used: \(error.rawValue)")
        }
        let text: String
        do throws(ThinkingBlock.Problem) {
            text = try ThinkingBlock(sample.response, sample.thinking).answer
        } catch { return .ok(value: 0, detail: error.rawValue) }
        do throws(MathAnswer.Problem) {
            let found = try MathAnswer.final(in: text, requiresBox: requiresBox)
            let isRight = MathAnswer.areEquivalent(reference, found)
            return .ok(value: isRight ? 1 : 0, detail: "\(isRight ? "right" : "wrong"): \(found.prefix(80))")
        } catch { return .ok(value: 0, detail: error.rawValue) }
    }
}
