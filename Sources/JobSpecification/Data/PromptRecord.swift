// SPDX-License-Identifier: Apache-2.0

/// One message of a conversation.
package struct ChatMessage: Equatable, Sendable {
    /// `system`, `user`, `assistant` or `tool`.
    package let role: String
    package let content: String
    /// An assistant's thinking, where the data keeps it apart.
    package let reasoningContent: String?

    package init(role: String, content: String, reasoningContent: String? = nil) {
        self.role = role
        self.content = content
        self.reasoningContent = reasoningContent
    }
}

/// What is given to the model.
package enum PromptContent: Equatable, Sendable {
    /// Text as it is; no chat template.
    case text(String)
    /// A conversation, to be rendered by the chat template.
    case messages([ChatMessage])
}

/// One row of a rollout job's data.
package struct PromptRecord: Equatable, Sendable {
    /// The row's `id`, or `row-N` with its line number.
    package let id: String
    package let content: PromptContent
    /// Reference answer for reward functions.
    package let answer: String?
    /// Line in the file, from 1.
    package let lineNumber: Int
    /// All other columns, for reward functions: text as it is, anything else as JSON.
    package let columns: [String: String]

    package init(
        id: String, content: PromptContent, answer: String?, lineNumber: Int, columns: [String: String] = [:]
    ) {
        self.id = id
        self.content = content
        self.answer = answer
        self.lineNumber = lineNumber
        self.columns = columns
    }

    /// The last of Qwen3's soft switches in the conversation, `think` or `no_think`; nil without one. A system message
    /// comes before every turn, and what the assistant says is no instruction.
    package var lastFlag: String? {
        let texts =
            switch content {
            case .text(let text): [text]
            case .messages(let messages): messages.filter { $0.role == "system" || $0.role == "user" }.map(\.content)
            }
        return texts.compactMap(Self.flag).last
    }

    private static func flag(_ text: String) -> String? {
        let words = text.split(whereSeparator: \.isWhitespace)
        return words.last { $0 == "/think" || $0 == "/no_think" }.map { String($0.dropFirst()) }
    }
}

extension PromptRecord {
    /// Reads the columns of one row.
    /// - Throws: a ``RowProblem`` without place; the reader adds it.
    init(_ row: [String: DataValue], data: DataSection, lineNumber: Int) throws(RowProblem) {
        content = try PromptContent(row, column: data.promptColumn)
        answer = try row.answer(column: data.answerColumn)
        id = try row.identifier(lineNumber: lineNumber)
        self.lineNumber = lineNumber
        let used = Set(["id", "prompt", "messages", "answer", "solution", data.promptColumn, data.answerColumn])
        columns = row.filter { !used.contains($0.key) }.compactMapValues(\.columnText)
    }
}

/// Why a row cannot be used.
struct RowProblem: Error, Equatable {
    let message: String
    init(_ message: String) { self.message = message }
}

extension PromptContent {
    /// - Parameter column: the one column to look at; nil is `prompt` or `messages`.
    init(_ row: [String: DataValue], column: String?) throws(RowProblem) {
        let names = column.map { [$0] } ?? ["prompt", "messages"]
        let present = names.filter { row[$0] != nil && row[$0] != .null }
        guard let name = present.first, let value = row[name] else {
            throw RowProblem("no column \(names.map { "'\($0)'" }.joined(separator: " or "))")
        }
        guard present.count == 1 else {
            throw RowProblem("both 'prompt' and 'messages'; keep one or set data.prompt_column")
        }
        switch value {
        case .string(let text) where name != "messages":
            guard !text.isEmpty else { throw RowProblem("'\(name)' is empty") }
            self = .text(text)
        case .list(let items):
            self = .messages(try ChatMessage.list(items, column: name))
            try requirePrompt(name)
        default:
            throw RowProblem("'\(name)' is \(value.kind); expected a string or a list of messages")
        }
    }

    private func requirePrompt(_ column: String) throws(RowProblem) {
        guard case .messages(let messages) = self, messages.last?.role != "assistant" else {
            throw RowProblem("'\(column)' ends with an assistant message: there is nothing left to answer")
        }
    }
}

extension ChatMessage {
    private static let countMax = 1024

    /// Reads a conversation.
    static func list(_ items: [DataValue], column: String) throws(RowProblem) -> [ChatMessage] {
        guard (1...countMax).contains(items.count) else {
            throw RowProblem("'\(column)' has \(items.count) messages; expected 1 to \(countMax)")
        }
        var messages: [ChatMessage] = []
        for (index, item) in items.enumerated() {
            guard case .mapping(let fields) = item, case .string(let role) = fields["role"],
                case .string(let content) = fields["content"]
            else { throw RowProblem("'\(column)[\(index)]' has no strings 'role' and 'content'") }
            guard ["system", "user", "assistant", "tool"].contains(role) else {
                throw RowProblem(
                    "'\(column)[\(index)].role' is '\(role)', not system, user, assistant or tool")
            }
            var reasoning: String?
            if case .string(let text) = fields["reasoning_content"] { reasoning = text }
            messages.append(ChatMessage(role: role, content: content, reasoningContent: reasoning))
        }
        return messages
    }
}

extension [String: DataValue] {
    /// The reference answer: a string, or a number as it reads. `answer` and `solution` must agree where both
    /// are.
    fileprivate func answer(column: String?) throws(RowProblem) -> String? {
        var found: String?
        for name in column.map({ [$0] }) ?? ["answer", "solution"] {
            let text: String
            switch self[name] {
            case nil, .null: continue
            case .string(let value): text = value
            case .integer(let value): text = String(value)
            case .number(let value): text = value.description
            case .some(let other):
                throw RowProblem("'\(name)' is \(other.kind); expected a string or a number")
            }
            if let found, found != text {
                throw RowProblem("'answer' and 'solution' differ; set data.answer_column")
            }
            found = text
        }
        return found
    }

    /// The row's id, or one made of its line number.
    func identifier(lineNumber: Int) throws(RowProblem) -> String {
        switch self["id"] {
        case nil, .null: return "row-\(lineNumber)"
        case .integer(let value): return String(value)
        case .string(let text):
            guard (1...256).contains(text.utf8.count), text.unicodeScalars.allSatisfy({ $0.value >= 32 })
            else {
                throw RowProblem("'id' must have 1 to 256 bytes and no control characters")
            }
            return text
        case .some(let other): throw RowProblem("'id' is \(other.kind); expected a string or an integer")
        }
    }
}
