// SPDX-License-Identifier: Apache-2.0

/// One row of a score job's data.
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
    /// Line in the file, from 1.
    package let lineNumber: Int
}

extension ScoreRecord {
    private static let columns = ["token_ids", "input_ids", "text", "messages"]

    init(_ row: [String: DataValue], data: DataSection, lineNumber: Int) throws(RowProblem) {
        self.lineNumber = lineNumber
        id = try row.identifier(lineNumber: lineNumber)
        if PreferencePair.isIn(row) {
            content = .pair(try PreferencePair(row, promptColumn: data.promptColumn))
            return
        }
        if let text = row["completion"], text != .null {
            for name in Self.columns where row[name] != nil && row[name] != .null {
                throw RowProblem(
                    "both 'completion' and '\(name)'; keep 'prompt' and 'completion' or the other")
            }
            guard case .string(let text) = text, !text.isEmpty else {
                throw RowProblem("'completion' is \(text.kind) or empty; expected a text")
            }
            content = .completion(
                prompt: try PromptContent(row, column: data.promptColumn ?? "prompt"), text: text)
            return
        }
        let names = data.promptColumn.map { [$0] } ?? Self.columns
        let present = names.filter { row[$0] != nil && row[$0] != .null }
        guard let name = present.first, let value = row[name] else {
            throw RowProblem(
                "no column \(names.map { "'\($0)'" }.joined(separator: " or ")), nor 'prompt' and 'completion', nor 'chosen' and 'rejected'"
            )
        }
        guard present.count == 1 else {
            throw RowProblem("several of \(present.map { "'\($0)'" }.joined(separator: ", ")); keep one")
        }
        switch value {
        case .string(let text):
            guard !text.isEmpty else { throw RowProblem("'\(name)' is empty") }
            content = .text(text)
        case .list(let items):
            if case .mapping = items.first {
                content = .messages(try ChatMessage.list(items, column: name))
            } else {
                content = .tokens(try Self.tokens(items, column: name))
            }
        default: throw RowProblem("'\(name)' is \(value.kind); expected token ids, a text or messages")
        }
    }

    private static func tokens(_ items: [DataValue], column: String) throws(RowProblem) -> [Int32] {
        var ids: [Int32] = []
        ids.reserveCapacity(items.count)
        for (index, item) in items.enumerated() {
            guard case .integer(let value) = item, let id = Int32(exactly: value), id >= 0 else {
                throw RowProblem("'\(column)[\(index)]' is not a token id")
            }
            ids.append(id)
        }
        guard ids.count >= 2 else { throw RowProblem("'\(column)' has \(ids.count) tokens; a score needs 2") }
        return ids
    }
}
