// SPDX-License-Identifier: Apache-2.0

/// Whether the chat template asks for thinking.
package enum ThinkingMode: String, CaseIterable, Sendable {
    case on, off
    /// Whatever the template does when it is not told.
    case `default`
}

/// `thinking:` mode and budget. A budget ends the thinking of a response by force-fed tokens, inside the
/// sampling loop.
package struct ThinkingSection: Equatable, Sendable {
    package let mode: ThinkingMode
    /// Tokens of thinking after which the stop-thinking text is forced; nil is no budget.
    package let budget: Int?
    /// What is forced then; nil is the text of Qwen's documentation. It must end the think block.
    package let stopText: String?

    /// Tokens of the stop-thinking text (Qwen documentation, quickstart).
    package static let stopTextTokenCount = 24

    package init(_ reader: YAMLReader, maxNewTokens: Int) throws(JobError) {
        let fields = try reader.fields(JobSchema.thinking)
        stopText = try fields["stop_text"]?.string()
        if let stopText, !stopText.contains("</think>") {
            throw fields.error("stop_text", "does not end the thinking; it needs a </think>")
        }
        mode = try fields.choice("mode")
        budget = try fields["budget"]?.integer()
        guard let budget else {
            if stopText != nil {
                throw fields.error("stop_text", "is for a budget; set thinking.budget or remove this")
            }
            return
        }
        if mode == .off {
            throw fields.error("budget", "a budget without thinking: remove it or set thinking.mode")
        }
        // A token has a byte at least.
        let stopCount = stopText?.utf8.count ?? Self.stopTextTokenCount
        guard budget + stopCount < maxNewTokens else {
            throw fields.error(
                "budget",
                "\(budget) and the \(stopCount) tokens of the stop-thinking text leave no room for an "
                    + "answer: sampling.max_new_tokens is \(maxNewTokens)")
        }
    }

    package var resolved: ResolvedValue {
        .section([
            "mode": .string(mode.rawValue), "budget": budget.map { .integer($0) },
            "stop_text": stopText.map { .string($0) },
        ])
    }
}
