// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport

/// One row of a score job's data, or of data that is learned from.
package struct ScoreRecord: Equatable, Sendable {
    /// What is scored.
    package enum Content: Equatable, Sendable {
        /// Token ids as they are.
        case tokens([Int32])
        case text(String)
        case messages([ChatMessage])
        /// A prompt and what was answered to it (TRL's columns).
        case completion(prompt: PromptContent, text: String)
        /// Two answers of which the first is preferred.
        case pair(PreferencePair)
    }

    /// The row's `id`, or `row-N` with its line number.
    package let id: String
    package let content: Content
    /// Schemas of the row's own tools, for the chat template; nil without any.
    package let tools: JSONValue?
    /// The row's own variables of the chat template (`chat_template_kwargs`).
    package let templateArguments: JSONObject?
    /// How many of the messages are a prompt, of which nothing is learned.
    package let promptMessageCount: Int
    /// Line in the file, from 1.
    package let lineNumber: Int
}

extension ScoreRecord {
    private static let columns = ["token_ids", "input_ids", "text"] + RowColumns.conversations

    init(_ original: JSONObject, data: DataSection, _ place: RowReader.Row) throws(RowProblem) {
        let row = try data.columns.renamed(original)
        lineNumber = place.place.number
        id = try RowColumns.identifier(of: row, lineNumber: place.number)
        tools = try row.tools()
        templateArguments = try row.templateArguments()
        var promptCount = 0
        if PreferencePair.isIn(row) {
            content = .pair(try PreferencePair(row, data, original))
        } else if RowColumns.has(row, "completion") {
            content = try Self.completion(row, data, original, &promptCount)
        } else if let output = Instruction.output(of: row) {
            guard case (.messages(let messages), _) = try data.prompt(of: row, original) else {
                throw RowProblem(
                    "an instruction is a turn of a conversation; remove data.apply_chat_template, or give prompt and answer "
                        + "other names with data.columns: {prompt: instruction, completion: output}")
            }
            content = .messages(messages + [ChatMessage(role: "assistant", content: output)])
        } else {
            content = try Self.whole(row, data)
        }
        promptMessageCount = promptCount
    }

    private static func completion(
        _ row: JSONObject, _ data: DataSection, _ original: JSONObject, _ promptCount: inout Int
    ) throws(RowProblem) -> Content {
        for name in columns where RowColumns.has(row, name) && data.promptColumn != name {
            throw RowProblem("both 'completion' and '\(name)'; keep 'prompt' and 'completion' or the other")
        }
        let prompt = try data.prompt(of: row, original).0
        switch (row["completion"] ?? .null, prompt) {
        case (.string(let text), .messages(let messages)) where !text.isEmpty && data.turnsTextIntoMessages:
            promptCount = messages.count
            return .messages(messages + [ChatMessage(role: "assistant", content: text)])
        case (.string(let text), _) where !text.isEmpty: return .completion(prompt: prompt, text: text)
        case (.array(let items), .messages(let messages)):
            let completion = try ChatMessage.list(items, column: "completion")
            guard completion.last?.role == "assistant" else {
                throw RowProblem("'completion' does not end with an answer of the assistant")
            }
            promptCount = messages.count
            return .messages(messages + completion)
        case (.array, .text):
            throw RowProblem(
                "'completion' has messages but the prompt is a text; make both the same, or set data.apply_chat_template: true"
            )
        case (let other, _):
            throw RowProblem("'completion' is \(other.kind) or empty; expected a text or a list of messages")
        }
    }

    private static func whole(_ row: JSONObject, _ data: DataSection) throws(RowProblem) -> Content {
        let names = data.promptColumn.map { [$0] } ?? columns
        let present = names.filter { RowColumns.has(row, $0) }
        guard let name = present.first, let value = row[name] else {
            throw RowProblem(
                "no column \(names.map { "'\($0)'" }.joined(separator: " or ")), nor 'prompt' and 'completion', nor 'chosen' "
                    + "and 'rejected'; \(RowColumns.inventory(row)); data.columns gives columns other names, such as "
                    + "{prompt: question, completion: answer}")
        }
        guard present.count == 1 else {
            throw RowProblem("several of \(present.map { "'\($0)'" }.joined(separator: ", ")); keep one")
        }
        switch try RowColumns.unpacked(value, name) {
        case .string(let text) where !RowColumns.conversations.contains(name):
            guard !text.isEmpty else { throw RowProblem("'\(name)' is empty") }
            return .text(text)
        case .array(let items):
            return items.first?.objectValue != nil
                ? .messages(try data.introduced(ChatMessage.list(items, column: name), row))
                : .tokens(try tokens(items, column: name))
        default: throw RowProblem("'\(name)' is \(value.kind); expected token ids, a text or messages")
        }
    }

    private static func tokens(_ items: [JSONValue], column: String) throws(RowProblem) -> [Int32] {
        var ids: [Int32] = []
        ids.reserveCapacity(items.count)
        for (index, item) in items.enumerated() {
            guard let value = item.intValue, let id = Int32(exactly: value), id >= 0 else {
                throw RowProblem("'\(column)[\(index)]' is not a token id")
            }
            ids.append(id)
        }
        guard ids.count >= 2 else { throw RowProblem("'\(column)' has \(ids.count) tokens; a score needs 2") }
        return ids
    }
}
