// SPDX-License-Identifier: Apache-2.0
package import Foundation
package import JobSpecification
internal import RuntimeSupport

/// The rows that a suite asks: read in a public form, a share of them taken, put into the prompt.
package struct EvaluationData {
    package var format = PublicFormat.plain
    /// Text with `{question}`, and other columns in braces; nil: the question alone.
    package var prompt: String?
    /// Share of the rows that is asked, the same share of each group of `by`.
    package var share = 1.0
    package var limit: Int?
    /// Column of the groups.
    package var by: String?
    package var seed: UInt64 = 0
    /// One row per choice, with the choice as its completion: for the log-probabilities of the choices.
    package var ranksChoices = false

    /// Names for columns of the file.
    package var columns = ColumnNames()

    package init() {}

    /// - Throws: ``CurationError``.
    package func prepare(_ source: URL, to target: URL) throws { try prepare(DataSet(source.path), to: target) }

    /// - Throws: ``CurationError``.
    package func prepare(_ source: DataSet, to target: URL) throws {
        var rows: [Rows.Row] = []
        for (index, original) in try Rows.read(source).enumerated() {
            let named: Rows.Row
            do throws(RowProblem) {
                named = Rows.Row(try columns.renamed(original.object), lineNumber: original.lineNumber)
            } catch { throw CurationError("\(source.path): row \(original.lineNumber ?? index + 1): \(error)") }
            var row = try format.read(named, index)
            // A form makes new rows; the id is that of the row it was made from.
            row["id"] = Rows.writtenID(row) ?? Rows.id(original, index)
            rows.append(row)
        }
        guard !rows.isEmpty else { throw CurationError("\(source.path): has no rows") }
        let ids = Set(rows.map { $0["id"] as? String ?? "" })
        guard ids.count == rows.count else {
            throw CurationError("\(source.path): \(rows.count - ids.count) ids occur twice; answers are joined by id")
        }
        rows = try sample(rows).map(asked)
        try Rows.write(ranksChoices ? rows.flatMap(ranked) : rows, to: target)
    }

    /// The rows that draw lowest, of each group; in their order.
    private func sample(_ rows: [Rows.Row]) -> [Rows.Row] {
        var chosen: Set<Int> = []
        let groups = Dictionary(grouping: rows.indices) { index in by.map { "\(rows[index][$0] ?? "")" } ?? "" }
        for indices in groups.values {
            let count = max(1, Int((Double(indices.count) * share).rounded()))
            let drawn = indices.map { (Rows.draw(rows[$0]["id"] as? String ?? "", salt: "evaluation \(seed)"), $0) }
            chosen.formUnion(drawn.sorted { $0 < $1 }.prefix(count).map(\.1))
        }
        let kept = rows.indices.filter(chosen.contains).map { rows[$0] }
        return limit.map { Array(kept.prefix($0)) } ?? kept
    }

    private func asked(_ row: Rows.Row) throws(CurationError) -> Rows.Row {
        guard row["messages"] == nil, let question = row["question"] as? String else { return row }
        var text = prompt ?? "{question}"
        for member in row.object.members where member.key != "question" && text.contains("{\(member.key)}") {
            text = text.replacingOccurrences(
                of: "{\(member.key)}", with: member.value.stringValue ?? member.value.compactText)
        }
        // Last: a question may hold braces of its own.
        text = text.replacingOccurrences(of: "{question}", with: question)
        var row = row
        row["messages"] = [["role": "user", "content": text]]
        row["prompt"] = nil
        return row
    }

    private func ranked(_ row: Rows.Row) throws(CurationError) -> [Rows.Row] {
        guard let choices = row["choices"] as? [String], let messages = row["messages"] else {
            throw CurationError("row \(row["id"] ?? "") has no 'choices' to rank")
        }
        return choices.enumerated().map { number, choice in
            // Everything else stays beside it: what the choices are of, and by which column they are counted.
            var ranked = row
            ranked["question_id"] = row["id"]
            ranked["id"] = "\(row["id"] as? String ?? "")/\(number)"
            ranked["prompt"] = messages
            ranked["completion"] = choice
            ranked["messages"] = nil
            return ranked
        }
    }
}
