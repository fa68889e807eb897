// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport

/// What is given to the model.
package enum PromptContent: Equatable, Sendable {
    /// Text as it is; no chat template.
    case text(String)
    /// A conversation, to be rendered by the chat template.
    case messages([ChatMessage])

    /// The query: the last user turn, or the text.
    package var query: String {
        switch self {
        case .text(let text): text
        case .messages(let messages): messages.last { $0.role == "user" }?.content ?? ""
        }
    }
}

/// One row of a rollout job's data.
package struct PromptRecord: Equatable, Sendable {
    /// The row's `id`, or `row-N` with its line number.
    package let id: String
    package let content: PromptContent
    /// Schemas of the row's own tools, for the chat template; nil without any.
    package let tools: JSONValue?
    /// The row's own variables of the chat template (`chat_template_kwargs`).
    package let templateArguments: JSONObject?
    /// Reference answer for reward functions.
    package let answer: String?
    /// Line in the file, from 1.
    package let lineNumber: Int
    /// All other columns, for reward functions: text as it is, anything else as JSON.
    package let columns: [String: String]

    package init(
        id: String, content: PromptContent, tools: JSONValue? = nil, templateArguments: JSONObject? = nil,
        answer: String?, lineNumber: Int, columns: [String: String] = [:]
    ) {
        self.id = id
        self.content = content
        self.tools = tools
        self.templateArguments = templateArguments
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
    init(_ original: JSONObject, data: DataSection, _ place: RowReader.Row) throws(RowProblem) {
        let row = try data.columns.renamed(original)
        let (content, promptColumn) = try data.prompt(of: row, original)
        let answer = try RowColumns.answer(of: row, column: data.answerColumn)
        self.content = content
        tools = try row.tools()
        templateArguments = try row.templateArguments()
        self.answer = answer?.text
        id = try RowColumns.identifier(of: row, lineNumber: place.number)
        lineNumber = place.place.number
        let used = Set([
            "id", "prompt", "messages", "conversations", "answer", "solution", promptColumn, answer?.column,
        ])
        var columns: [String: String] = [:]
        for member in row.members where !used.contains(member.key) { columns[member.key] = member.value.columnText }
        self.columns = columns
    }
}

extension PromptContent {
    /// What the row asks, and the column that it stands in.
    /// - Parameter column: the one column to look at; nil: what ``RowColumns`` says.
    static func read(_ row: JSONObject, column: String?) throws(RowProblem) -> (PromptContent, column: String) {
        var name = column
        if name == nil { name = try RowColumns.prompt(of: row) }
        guard let name, let value = row[name], !value.isNull else {
            let names = column.map { [$0] } ?? RowColumns.prompts.flatMap { $0 }
            throw RowProblem(
                "no column \(names.map { "'\($0)'" }.joined(separator: " or ")); \(RowColumns.inventory(row)); data.columns "
                    + "gives a column another name, such as {prompt: COLUMN}")
        }
        switch try RowColumns.unpacked(value, name) {
        case .string(let text) where !RowColumns.conversations.contains(name):
            guard !text.isEmpty else { throw RowProblem("'\(name)' is empty") }
            return (.text(text), name)
        case .array(let items):
            let messages = try ChatMessage.list(items, column: name)
            if let last = messages.last, last.role == "assistant" {
                // The model goes on with it, as in TRL; in 'messages' it is an answer as a rule.
                guard !RowColumns.conversations.contains(name) else {
                    throw RowProblem(
                        "'\(name)' ends with an assistant message: there is nothing left to answer; where the model is "
                            + "to go on with its text, name the column 'prompt'")
                }
                guard !last.callsTools else {
                    throw RowProblem("'\(name)' ends with tool calls: their results are missing")
                }
            }
            return (.messages(messages), name)
        default:
            throw RowProblem("'\(name)' is \(value.kind); expected a string or a list of messages")
        }
    }
}
