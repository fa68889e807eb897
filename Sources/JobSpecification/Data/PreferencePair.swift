// SPDX-License-Identifier: Apache-2.0

/// Two responses of which the first is preferred: TRL's columns `prompt`, `chosen` and `rejected`.
///
/// `chosen` and `rejected` are texts beside a prompt, or lists of messages that end with the assistant's: what follows the
/// prompt's messages, or, without a `prompt`, whole conversations.
package struct PreferencePair: Equatable, Sendable {
    /// A response with what it answers.
    package struct Side: Equatable, Sendable {
        package let prompt: PromptContent
        package let response: String

        package init(prompt: PromptContent, response: String) {
            self.prompt = prompt
            self.response = response
        }
    }

    package let chosen: Side
    package let rejected: Side

    package init(chosen: Side, rejected: Side) {
        self.chosen = chosen
        self.rejected = rejected
    }

    private static let columns = ["chosen", "rejected"]

    /// Whether the row has one of a pair's columns.
    static func isIn(_ row: [String: DataValue]) -> Bool {
        columns.contains { row[$0] != nil && row[$0] != .null }
    }

    init(_ row: [String: DataValue], promptColumn: String?) throws(RowProblem) {
        let column = promptColumn ?? "prompt"
        let hasPrompt = row[column] != nil && row[column] != .null
        let prompt: PromptContent? = hasPrompt ? try PromptContent(row, column: column) : nil
        chosen = try Self.side("chosen", row, prompt)
        rejected = try Self.side("rejected", row, prompt)
        guard chosen != rejected else { throw RowProblem("'chosen' and 'rejected' are equal") }
    }

    private static func side(
        _ name: String, _ row: [String: DataValue], _ prompt: PromptContent?
    ) throws(RowProblem) -> Side {
        switch row[name] {
        case nil, .null: throw RowProblem("no column '\(name)'; a preference has 'chosen' and 'rejected'")
        case .string(let text):
            guard let prompt else { throw RowProblem("'\(name)' is a text, so a 'prompt' must be beside it") }
            guard !text.isEmpty else { throw RowProblem("'\(name)' is empty") }
            return Side(prompt: prompt, response: text)
        case .list(let items):
            var messages = try ChatMessage.list(items, column: name)
            switch prompt {
            case .text: throw RowProblem("'\(name)' has messages but 'prompt' is a text; make both the same")
            case .messages(let first): messages = first + messages
            case nil: break
            }
            guard let last = messages.popLast(), last.role == "assistant", !last.content.isEmpty else {
                throw RowProblem("'\(name)' does not end with an answer of the assistant")
            }
            guard !messages.isEmpty else { throw RowProblem("'\(name)' has no message before the answer") }
            return Side(prompt: .messages(messages), response: last.content)
        case .some(let other): throw RowProblem("'\(name)' is \(other.kind); expected a text or a list of messages")
        }
    }
}
