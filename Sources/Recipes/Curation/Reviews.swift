// SPDX-License-Identifier: Apache-2.0
internal import JobSpecification

/// What a person said of queries that no answer solved: the column `verdict` that `apus data review` writes.
package struct Reviews: Sendable {
    /// What `verdict` may say.
    package enum Verdict: String, CaseIterable, Sendable {
        /// The reference is right; the query is hard and stays.
        case hard
        /// The reference is wrong and the right one unknown: the query goes.
        case wrongReference = "wrong_reference"
        /// The reference was wrong; the row's `answer` is the right one.
        case corrected
    }

    private var verdicts: [String: (verdict: Verdict, answer: String?)] = [:]
    /// The rows with a verdict, in order.
    package private(set) var rows: [Rows.Row] = []

    package init() {}

    /// - Parameter rows: a queue; rows without a verdict say nothing.
    /// - Throws: ``CurationError`` for a verdict that is none, and for a correction without an answer.
    package init(_ rows: [Rows.Row]) throws(CurationError) {
        for (index, row) in rows.enumerated() {
            guard let text = row["verdict"] else { continue }
            let id = Rows.id(row, index)
            guard let verdict = (text as? String).flatMap(Verdict.init) else {
                throw CurationError(
                    "the verdict on \(id) is '\(text)', not one of \(Verdict.allCases.map(\.rawValue).joined(separator: ", "))"
                )
            }
            let answer = verdict == .corrected ? row["answer"] as? String ?? Rows.reference(row) : nil
            guard verdict != .corrected || answer != nil else {
                throw CurationError("the verdict on \(id) is 'corrected', but it has no answer")
            }
            verdicts[id] = (verdict, answer)
            self.rows.append(row)
        }
    }

    func has(_ id: String) -> Bool { verdicts[id] != nil }

    func hasWrongReference(_ id: String) -> Bool { verdicts[id]?.verdict == .wrongReference }

    /// Whether the answer was judged by a reference that a reviewer found wrong.
    package func isOutdated(_ answer: Answer) -> Bool {
        guard let review = verdicts[answer.id] else { return false }
        return review.verdict == .wrongReference
            || (review.verdict == .corrected && review.answer != answer.reference)
    }

    /// Rows with corrected references in place of theirs.
    func corrected(_ rows: [Rows.Row]) -> [Rows.Row] {
        guard !verdicts.isEmpty else { return rows }
        return rows.enumerated().map { index, row in
            guard let answer = verdicts[Rows.id(row, index)]?.answer else { return row }
            var row = row
            let column = (try? RowColumns.answer(of: row.object)?.column) ?? "answer"
            row[column == "reward_model" ? "answer" : column] = answer
            // It showed how the wrong one was found.
            if column == "answer" { row["solution"] = nil }
            return row
        }
    }
}
