// SPDX-License-Identifier: Apache-2.0

/// 1 when the response, after its thinking and without white space at both ends, is the reference answer.
package struct ExactReward: RewardFunction {
    package static let name = "exact"
    package static let ability = RewardAbility.reasoning
    package static let needsAnswer = true

    private let ignoresCase: Bool
    private let ignoresWhitespace: Bool

    /// Options: `ignore_case`, `ignore_whitespace` (both default to false).
    package init(options: RewardOptions) throws(RewardOptionError) {
        try options.requireOnly(["ignore_case", "ignore_whitespace"])
        ignoresCase = try options.boolean("ignore_case", default: false)
        ignoresWhitespace = try options.boolean("ignore_whitespace", default: false)
    }

    package func evaluate(_ sample: RewardSample) -> RewardOutcome {
        guard let answer = sample.answer else {
            return .infrastructureError(
                reason: "reward 'exact' needs a reference answer and the row has none")
        }
        let response: String
        do throws(ThinkingBlock.Problem) {
            response = try ThinkingBlock(sample.response, sample.thinking).answer
        } catch { return .ok(value: 0, detail: error.rawValue) }
        let isEqual = form(response) == form(answer)
        return .ok(value: isEqual ? 1 : 0, detail: isEqual ? "equal" : "different")
    }

    private func form(_ text: String) -> [Unicode.Scalar] {
        var text = text.trimmed
        if ignoresWhitespace { text = String(text.filter { !$0.isWhitespace }) }
        if ignoresCase { text = text.lowercased() }
        // Scalars, not characters: string equality would take canonically equivalent texts for equal.
        return Array(text.unicodeScalars)
    }
}
