// SPDX-License-Identifier: Apache-2.0

/// 1 when the final answer of the response means the reference answer. Only text after the thinking counts;
/// several different answers in boxes, an unclosed box or an unclosed thinking block are 0. Without a box the last number of
/// the text counts, as in math-verify.
package struct MathAnswerReward: RewardFunction {
    package static let name = "math_answer"
    package static let ability = RewardAbility.reasoning

    package static let needsAnswer = true

    private let requiresBox: Bool
    private let usesLast: Bool

    /// Options: `require_boxed`, `use_last` (of several answers the last counts, as in verl); default false.
    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["require_boxed", "use_last"])
        requiresBox = try options.boolean("require_boxed", default: false)
        usesLast = try options.boolean("use_last", default: false)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        guard let answer = sample.answer, !answer.trimmed.isEmpty else {
            return .infrastructureError(
                reason: "reward 'math_answer' needs a reference answer and the row has none")
        }
        let reference: String
        do throws(MathAnswer.Problem) {
            reference = try MathAnswer.final(in: answer)
        } catch {
            return .infrastructureError(reason: "the reference answer cannot be used: \(error.rawValue)")
        }
        let text: String
        do throws(ThinkingBlock.Problem) {
            text = try ThinkingBlock(sample.response, sample.thinking).answer
        } catch { return .ok(value: 0, detail: error.rawValue) }
        do throws(MathAnswer.Problem) {
            let found = try MathAnswer.final(
                in: text, requiresBox: requiresBox, requiresSingle: !usesLast, takesLastNumber: true)
            let isRight = MathAnswer.areEquivalent(reference, found)
            return .ok(value: isRight ? 1 : 0, detail: "\(isRight ? "right" : "wrong"): \(found.prefix(80))")
        } catch { return .ok(value: 0, detail: error.rawValue) }
    }
}
