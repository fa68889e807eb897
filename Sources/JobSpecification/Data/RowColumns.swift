// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport

/// Which columns of a row are its id, its prompt and its reference answer: one contract for jobs and data commands.
///
/// Names in one list count alike and exclude each other; a later list is looked at when no earlier one has a column.
package enum RowColumns {
    /// A conversation or a text.
    package static let prompts = [
        ["prompt", "messages", "conversations"], ["question", "problem", "query"], ["instruction"], ["text"],
    ]
    /// Columns that hold messages and nothing else.
    static let conversations = ["messages", "conversations"]
    /// A text or a number.
    package static let answers = ["answer", "solution", "reference", "ground_truth"]

    /// Whether the row has something in this column.
    static func has(_ row: JSONObject, _ name: String) -> Bool { row[name].map { !$0.isNull } ?? false }

    /// A column by its name, or by its name with a capital first letter (AIME's `Problem` and `Answer`).
    package static func key(_ row: JSONObject, _ name: String) -> String? {
        [name, name.prefix(1).uppercased() + name.dropFirst()].first { has(row, $0) }
    }

    /// What a row has, for a message.
    package static func inventory(_ row: JSONObject) -> String {
        let names = row.members.filter { !$0.value.isNull }.map(\.key)
        let shown = names.prefix(12).joined(separator: ", ") + (names.count > 12 ? ", …" : "")
        return names.isEmpty ? "the row is empty" : "the row has: \(shown)"
    }

    /// Messages that a text column of comma-separated values or a database holds as JSON.
    static func unpacked(_ value: JSONValue, _ name: String) throws(RowProblem) -> JSONValue {
        guard conversations.contains(name), let text = value.stringValue, text.first == "[" else { return value }
        do throws(JSONParseError) { return try JSONValue(parsing: text, repeatedKeys: .refused) } catch {
            throw RowProblem("'\(name)' is a text that is \(error)")
        }
    }

    /// The column that holds the prompt; nil where there is none.
    /// - Throws: ``RowProblem`` where several could be meant.
    package static func prompt(of row: JSONObject) throws(RowProblem) -> String? {
        for names in prompts {
            let present = names.compactMap { key(row, $0) }
            guard present.count < 2 else {
                throw RowProblem(
                    "both '\(present[0])' and '\(present[1])'; keep one or set data.prompt_column")
            }
            if let name = present.first { return name }
        }
        return nil
    }

    /// The query: the text of the prompt, or the last turn of the user; empty where the row has none.
    package static func query(of row: JSONObject) -> String {
        for name in prompts.flatMap({ $0 }) {
            guard let column = key(row, name), let value = row[column].flatMap({ try? unpacked($0, name) }) else {
                continue
            }
            switch value {
            case .string(let text) where !text.isEmpty:
                return column == "instruction" ? Instruction.question(text, of: row) : text
            case .array(let items):
                // Whatever else is wrong with the messages, the question can be read.
                let turns = items.compactMap { $0.objectValue.flatMap { try? ShareGPT.message($0, name) } }
                let last = turns.last { $0["role"]?.stringValue == "user" }
                if let text = last?["content"]?.stringValue { return text }
            default: continue
            }
        }
        return ""
    }

    /// The messages of a row's prompt, with `role` and `content` whatever the file calls them; nil where the prompt is a text.
    package static func messages(of row: JSONObject) -> [JSONObject]? {
        for name in prompts[0] {
            guard let items = row[name].flatMap({ try? unpacked($0, name) })?.arrayValue else { continue }
            return items.compactMap { $0.objectValue.flatMap { try? ShareGPT.message($0, name) } }
        }
        return nil
    }

    /// The reference answer and its column: a text as it is, a number as it is written.
    ///
    /// A `solution` beside an `answer` is how the answer was found, and must hold it. `reward_model.ground_truth` (verl) comes
    /// last.
    package static func answer(of row: JSONObject) throws(RowProblem) -> (column: String, text: String)? {
        for name in answers {
            guard let column = key(row, name), let value = row[column] else { continue }
            guard let text = text(value) else {
                // Evaluation sets keep other things under the rarer names, BFCL lists of calls.
                if name != "answer", name != "solution" { continue }
                throw RowProblem("'\(column)' is \(value.kind); expected a string or a number")
            }
            let answer = final(text)
            if name == "answer", let solution = key(row, "solution").flatMap({ row[$0] }).flatMap(Self.text),
                !leads(solution, to: answer)
            {
                throw RowProblem("'answer' and 'solution' differ; set data.answer_column")
            }
            return (column, answer)
        }
        return row["reward_model"]?["ground_truth"].flatMap(text).map { ("reward_model", $0) }
    }

    /// - Throws: ``RowProblem`` where the column holds neither a text nor a number.
    static func answer(of row: JSONObject, column: String?) throws(RowProblem) -> (column: String, text: String)? {
        guard let column else { return try answer(of: row) }
        guard let value = row[column], !value.isNull else { return nil }
        guard let text = text(value) else {
            throw RowProblem("'\(column)' is \(value.kind); expected a string or a number")
        }
        return (column, final(text))
    }

    /// What follows `####` in the last line of a worked answer (GSM8K), without commas between digits; any other text as it
    /// is.
    package static func final(_ text: String) -> String {
        let lines = text.split(whereSeparator: \.isNewline)
        guard let last = lines.last(where: { !$0.allSatisfy(\.isWhitespace) }),
            let mark = last.firstRange(of: "####")
        else { return text }
        let end = last[mark.upperBound...].drop(while: \.isWhitespace)
        guard last[..<mark.lowerBound].allSatisfy(\.isWhitespace), let first = end.first, first != "#" else {
            return text
        }
        let answer = String(end.reversed().drop(while: \.isWhitespace).reversed())
        let digits = answer.filter { $0 != "," }
        return Double(digits) != nil ? digits : answer
    }

    /// Whether a solution is a derivation of the answer and not another answer: it holds the answer, or it is longer than
    /// answers are.
    private static func leads(_ solution: String, to answer: String) -> Bool {
        func plain(_ text: String) -> String { text.filter { !$0.isWhitespace } }
        return solution.utf8.count > 80 || solution.contains("\\boxed") || plain(solution).contains(plain(answer))
    }

    private static func text(_ value: JSONValue) -> String? {
        switch value {
        case .string(let text), .integer(let text), .decimal(let text): text
        default: nil
        }
    }

    /// The id that the row writes: a text, or the digits of an integer; nil without one.
    package static func writtenIdentifier(of row: JSONObject) throws(RowProblem) -> String? {
        switch row["id"] {
        case nil, .null?: return nil
        case .integer(let digits)?: return digits
        case .string(let text)?:
            guard (1...256).contains(text.utf8.count), text.unicodeScalars.allSatisfy({ $0.value >= 32 }) else {
                throw RowProblem("'id' must have 1 to 256 bytes and no control characters")
            }
            return text
        case let other?: throw RowProblem("'id' is \(other.kind); expected a string or an integer")
        }
    }

    /// The row's id, or `row-N` with the number of its line.
    package static func identifier(of row: JSONObject, lineNumber: Int) throws(RowProblem) -> String {
        guard let written = try writtenIdentifier(of: row) else { return "row-\(lineNumber)" }
        return written
    }
}

/// Why a row cannot be used.
package struct RowProblem: Error, Equatable, CustomStringConvertible, Sendable {
    let message: String
    package init(_ message: String) { self.message = message }
    package var description: String { message }
}

extension JSONValue {
    /// As a column of a row: text as it is, anything else as JSON with its keys in order; nil for null.
    var columnText: String? {
        switch self {
        case .null: nil
        case .string(let text): text
        default: compactText
        }
    }
}
