// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

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
    static func isIn(_ row: JSONObject) -> Bool { columns.contains { RowColumns.has(row, $0) } }

    init(_ row: JSONObject, _ data: DataSection, _ original: JSONObject) throws(RowProblem) {
        var column = data.promptColumn
        if column == nil { column = try RowColumns.prompt(of: row) }
        var prompt: PromptContent?
        if data.promptTemplate != nil || column.map({ RowColumns.has(row, $0) }) ?? false {
            prompt = try data.prompt(of: row, original).0
        }
        chosen = try Self.side("chosen", row, prompt, data)
        rejected = try Self.side("rejected", row, prompt, data)
        guard chosen != rejected else { throw RowProblem("'chosen' and 'rejected' are equal") }
    }

    private static func side(
        _ name: String, _ row: JSONObject, _ prompt: PromptContent?, _ data: DataSection
    ) throws(RowProblem) -> Side {
        switch row[name] {
        case nil, .null?: throw RowProblem("no column '\(name)'; a preference has 'chosen' and 'rejected'")
        case .string(let text)?:
            guard let prompt else { throw RowProblem("'\(name)' is a text, so a 'prompt' must be beside it") }
            guard !text.isEmpty else { throw RowProblem("'\(name)' is empty") }
            return Side(prompt: prompt, response: text)
        case .array(let items)?:
            var messages = try ChatMessage.list(items, column: name)
            switch prompt {
            case .text: throw RowProblem("'\(name)' has messages but 'prompt' is a text; make both the same")
            case .messages(let first): messages = first + messages
            case nil: messages = data.introduced(messages, row)
            }
            guard let last = messages.popLast(), last.role == "assistant" else {
                throw RowProblem("'\(name)' does not end with an answer of the assistant")
            }
            guard !last.callsTools else {
                throw RowProblem("'\(name)' ends with tool calls, which a reward model does not read")
            }
            guard !last.content.isEmpty else {
                throw RowProblem("'\(name)' does not end with an answer of the assistant")
            }
            guard !messages.isEmpty else { throw RowProblem("'\(name)' has no message before the answer") }
            return Side(prompt: .messages(messages), response: last.content)
        case let other?: throw RowProblem("'\(name)' is \(other.kind); expected a text or a list of messages")
        }
    }
}
