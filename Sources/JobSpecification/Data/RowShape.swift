// SPDX-License-Identifier: Apache-2.0
//
// From a row as its file has it to the row that a job reads: names of columns, the prompt's text, and whether it is a turn
// of a conversation.
package import RuntimeSupport

/// Names that rows' columns are read by, where the file has others.
package struct ColumnNames: Equatable, Sendable {
    /// One of them: `source` is a column of the file, or a path with dots into one.
    package struct Entry: Equatable, Sendable {
        package let name: String
        package let source: String
    }

    /// Sorted by name.
    package let entries: [Entry]

    package init(_ entries: [(name: String, source: String)] = []) {
        self.entries = entries.map { Entry(name: $0.name, source: $0.source) }.sorted { $0.name < $1.name }
    }

    /// The name that stands for the prompt; nil: none of them.
    var prompt: String? { entries.first { RowColumns.prompts.joined().contains($0.name) }?.name }

    func has(_ name: String) -> Bool { entries.contains { $0.name == name } }

    /// The row with these names; a column that had such a name is gone.
    /// - Throws: which column is missing.
    package func renamed(_ row: JSONObject) throws(RowProblem) -> JSONObject {
        guard !entries.isEmpty else { return row }
        var result = row
        for entry in entries where result[entry.source] != nil { result[entry.source] = nil }
        for entry in entries {
            guard let value = row.value(at: entry.source) else {
                let isReversed = row[entry.name] != nil
                throw RowProblem(
                    "no column '\(entry.source)', which data.columns reads as '\(entry.name)'; \(RowColumns.inventory(row))"
                        + (isReversed
                            ? "; the form is {NAME HERE: COLUMN OF THE FILE}, so {\(entry.source): \(entry.name)}" : "")
                )
            }
            result[entry.name] = value
        }
        return result
    }
}

extension DataSection {
    /// Whether a text is asked as a user's turn: where the job says so, or names a system prompt.
    var turnsTextIntoMessages: Bool { appliesChatTemplate ?? (systemPrompt != nil) }

    /// What the row asks, and the column that it stands in.
    func prompt(of row: JSONObject, _ original: JSONObject) throws(RowProblem) -> (PromptContent, column: String) {
        var (content, column): (PromptContent, String)
        var isInstruction = false
        if let promptTemplate {
            let text = try promptTemplate.render(original, row)
            guard !text.isEmpty else { throw RowProblem("data.prompt_template gives an empty prompt") }
            (content, column) = (.text(text), promptColumn ?? "prompt")
        } else if promptColumn == nil, let messages = try Instruction.messages(of: row) {
            (content, column, isInstruction) = (.messages(messages), "instruction", true)
        } else {
            (content, column) = try PromptContent.read(row, column: promptColumn)
        }
        switch content {
        case .text(let text):
            guard turnsTextIntoMessages else { break }
            content = .messages(introduced([ChatMessage(role: "user", content: text)], row))
        case .messages(let messages):
            if isInstruction, appliesChatTemplate == false {
                content = .text(messages.map(\.content).joined(separator: "\n\n"))
            } else {
                content = .messages(introduced(messages, row))
            }
        }
        return (content, column)
    }

    /// The messages behind the system prompt: their own, the row's `system` (ShareGPT), the job's.
    func introduced(_ messages: [ChatMessage], _ row: JSONObject) -> [ChatMessage] {
        guard messages.first?.role != "system" else { return messages }
        let own = row["system"]?.stringValue.flatMap { $0.isEmpty ? nil : $0 }
        guard let text = own ?? systemPrompt else { return messages }
        return [ChatMessage(role: "system", content: text)] + messages
    }
}

/// Rows of `instruction`, `input` and `output` (Alpaca): one turn of the user and one of the assistant.
enum Instruction {
    private static let outputs = ["output", "response"]

    /// The answer; nil for a row of another form.
    static func output(of row: JSONObject) -> String? {
        guard row["instruction"]?.stringValue != nil,
            !RowColumns.prompts[0].contains(where: { RowColumns.has(row, $0) })
        else { return nil }
        return outputs.lazy.compactMap { row[$0]?.stringValue }.first { !$0.isEmpty }
    }

    /// The turns before the answer; nil for a row of another form.
    static func messages(of row: JSONObject) throws(RowProblem) -> [ChatMessage]? {
        guard try RowColumns.prompt(of: row) == "instruction", let text = row["instruction"]?.stringValue, !text.isEmpty
        else { return nil }
        var messages: [ChatMessage] = []
        // LLaMA-Factory's earlier turns: pairs of a question and an answer.
        for (index, pair) in (row["history"]?.arrayValue ?? []).enumerated() {
            guard let texts = pair.arrayValue, texts.count == 2, let question = texts[0].stringValue,
                let answer = texts[1].stringValue
            else { throw RowProblem("'history[\(index)]' is no pair of texts") }
            messages.append(ChatMessage(role: "user", content: question))
            messages.append(ChatMessage(role: "assistant", content: answer))
        }
        return messages + [ChatMessage(role: "user", content: question(text, of: row))]
    }

    static func question(_ instruction: String, of row: JSONObject) -> String {
        let input = row["input"]?.stringValue ?? ""
        return input.allSatisfy(\.isWhitespace) ? instruction : "\(instruction)\n\n\(input)"
    }
}

extension RowColumns {
    /// The row with `messages` in the place of ShareGPT's `conversations` and of Alpaca's columns; any other as it is.
    package static func normalized(_ row: JSONObject) throws(RowProblem) -> JSONObject {
        var (messages, used): ([ChatMessage], [String])
        if let value = row["conversations"], !value.isNull, !has(row, "messages"), !has(row, "prompt") {
            guard let items = try unpacked(value, "conversations").arrayValue else {
                throw RowProblem("'conversations' is \(value.kind); expected a list of messages")
            }
            (messages, used) = (try ChatMessage.list(items, column: "conversations"), ["conversations", "system"])
        } else if let output = Instruction.output(of: row), let turns = try Instruction.messages(of: row) {
            messages = turns + [ChatMessage(role: "assistant", content: output)]
            used = ["instruction", "input", "output", "response", "history", "system"]
        } else {
            return row
        }
        if messages[0].role != "system", let text = row["system"]?.stringValue, !text.isEmpty {
            messages.insert(ChatMessage(role: "system", content: text), at: 0)
        }
        var result = JSONObject([.init(key: "messages", value: .array(messages.map { .object($0.object) }))])
        for member in row.members where !used.contains(member.key) { result[member.key] = member.value }
        return result
    }
}
