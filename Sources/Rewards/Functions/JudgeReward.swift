// SPDX-License-Identifier: Apache-2.0
//
// The worker asks the judge before the functions run, and what it said is part of the sample.

/// A judge's score of the answer beside the reference (technical report, 4.4: model-based reward with reference). The
/// judge's text must end with `Score: X`, X within `lowest` to `highest` (default 0 to 10); the reward is the score on a
/// scale of 0 to 1. A text without a score is the judge's failure, never a reward of 0.
package struct JudgeReward: RewardFunction {
    package static let name = "judge"
    package static let ability = RewardAbility.preference
    package static let needsAnswer = false

    private let lowest: Double
    private let highest: Double

    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["lowest", "highest"])
        lowest = try options.number("lowest", -1000...1000, default: 0)
        highest = try options.number("highest", -1000...1000, default: 10)
        guard lowest < highest else { throw RewardOptionError("reward 'judge': lowest is not below highest") }
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        // What thinks without end or says nothing is not worth a question.
        do throws(Rejection) { _ = try sample.answerText() } catch { return .ok(value: 0, detail: error.reason) }
        guard let text = sample.consulted[Self.name] else {
            return .infrastructureError(reason: "no judge was asked; give the job a judge section")
        }
        guard let score = Self.score(in: text), (lowest...highest).contains(score) else {
            return .infrastructureError(reason: "the judge gave no score: '\(text.suffix(60))'")
        }
        return .ok(value: (score - lowest) / (highest - lowest), detail: "score \(score)")
    }

    /// The last `Score: X` of a text.
    static func score(in text: String) -> Double? {
        text.suffix(4096).matches(of: #/(?i)\bscore\s*\**\s*[:=]\s*\**\s*(-?[0-9]{1,6}(?:\.[0-9]{1,6})?)/#).last.flatMap
        {
            Double($0.output.1)
        }
    }
}
