// SPDX-License-Identifier: Apache-2.0
package import RuntimeSupport

/// Which columns of a row are its id, its prompt and its reference answer: one contract for jobs and data commands.
///
/// Names in one list count alike and exclude each other; a later list is looked at when no earlier one has a column.
package enum RowColumns {
    /// A conversation or a text.
    package static let prompts = [["prompt", "messages"], ["question", "problem", "query"], ["text"]]
    /// A text or a number.
    package static let answers = ["answer", "solution", "reference", "ground_truth"]

    /// Whether the row has something in this column.
    static func has(_ row: JSONObject, _ name: String) -> Bool { row[name].map { !$0.isNull } ?? false }

    /// The column that holds the prompt; nil where there is none.
    /// - Throws: ``RowProblem`` where several could be meant.
    package static func prompt(of row: JSONObject) throws(RowProblem) -> String? {
        for names in prompts {
            let present = names.filter { has(row, $0) }
            guard present.count < 2 else {
                throw RowProblem(
                    "both '\(present[0])' and '\(present[1])'; keep one or set data.prompt_column")
            }
            if let name = present.first { return name }
        }
        return nil
    }

    /// The reference answer and its column: a text as it is, a number as it is written.
    ///
    /// A `solution` beside an `answer` is how the answer was found, and must hold it. `reward_model.ground_truth` (verl) comes
    /// last.
    package static func answer(of row: JSONObject) throws(RowProblem) -> (column: String, text: String)? {
        for name in answers {
            guard let value = row[name], !value.isNull else { continue }
            guard let text = text(value) else {
                // Evaluation sets keep other things under the rarer names, BFCL lists of calls.
                if name != "answer", name != "solution" { continue }
                throw RowProblem("'\(name)' is \(value.kind); expected a string or a number")
            }
            if name == "answer", let solution = row["solution"].flatMap(Self.text), !solution.contains(text) {
                throw RowProblem("'answer' and 'solution' differ; set data.answer_column")
            }
            return (name, text)
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
        return (column, text)
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
