// SPDX-License-Identifier: Apache-2.0
//
// Generated checklists (Qwen3 technical report, 4.3: non-thinking data are "assessed with automatically generated
// checklists"): a model writes yes-or-no items for each query, a model answers them for each response, and what fulfils too
// few of them is left out. Both are rollout jobs; this makes their prompts and reads their answers.
internal import Foundation

package struct Checklists: Sendable {
    private static let itemCountMax = 20
    private static let itemByteCountMax = 400

    /// Share of its items that a response must fulfil.
    package var least = 0.8

    package init() {}

    /// Prompts that ask for the checklist of each query.
    package static func questions(_ queries: [Rows.Row], items: Int) -> [Rows.Row] {
        queries.enumerated().map { index, row in
            let text = """
                Write a checklist for judging an answer to the request below: at most \(items) questions that can be answered \
                with yes or no, where yes speaks for the answer. Ask about content, completeness, form and language. One \
                question per line, each beginning with "- ", and nothing else.

                Request:
                \(Rows.query(row))
                """
            return ["id": Rows.id(row, index), "messages": [["role": "user", "content": text]]]
        }
    }

    /// The items of a model's text: lines that begin with a dash, a star or a number, or a JSON list.
    package static func items(in text: String) -> [String] {
        let found: [String]
        if let start = text.firstIndex(of: "["), let end = text.lastIndex(of: "]"), start < end,
            let list = try? JSONSerialization.jsonObject(with: Data(text[start...end].utf8)) as? [String]
        {
            found = list
        } else {
            found = text.split(separator: "\n").compactMap { line in
                line.firstMatch(of: #/^\s*(?:[-*•]|[0-9]{1,3}[.):])\s+(.*\S)/#).map { String($0.output.1) }
            }
        }
        return Array(found.filter { !$0.isEmpty && $0.utf8.count <= itemByteCountMax }.prefix(itemCountMax))
    }

    /// Prompts that ask whether each demonstration's answer fulfils the checklist of its query.
    /// - Parameter checklists: by the query's id; demonstrations without one are left out and named in the report.
    package static func gradings(_ demonstrations: [Rows.Row], checklists: [Answer]) -> Curated {
        let items = Dictionary(
            checklists.map { ($0.id, Self.items(in: $0.response)) }, uniquingKeysWith: { first, _ in first })
        var report = FilterReport("Answers to be graded", reasons: [("no checklist", nil)])
        var rows: [Rows.Row] = []
        for (index, row) in demonstrations.enumerated() {
            let id = Rows.id(row, index)
            let query = (row["query_id"] as? String) ?? queryID(of: id, among: items)
            let answer = Self.answer(row)
            guard let list = items[query], !list.isEmpty else {
                report.remove("no checklist", id: id, text: answer)
                continue
            }
            let text = """
                A request, an answer to it, and numbered questions about the answer. Answer every question with its number, a \
                colon and yes or no, one per line, and nothing else.

                Request:
                \(Rows.query(row))

                Answer:
                \(answer)

                Questions:
                \(list.enumerated().map { "\($0 + 1). \($1)" }.joined(separator: "\n"))
                """
            rows.append(["id": id, "messages": [["role": "user", "content": text]], "item_count": list.count])
            report.keep()
        }
        return Curated(rows: rows, report: report)
    }

    /// The share of items that a grader's text answers with yes; nil where an item has no answer.
    package static func share(in text: String, itemCount: Int) -> Double? {
        var said: [Int: Bool] = [:]
        for match in text.matches(of: #/(?im)^\W*([0-9]{1,3})\s*[.:)]\W*(yes|no)\b/#) {
            if let number = Int(match.output.1), (1...max(1, itemCount)).contains(number) {
                said[number] = match.output.2.lowercased() == "yes"
            }
        }
        guard itemCount > 0, said.count == itemCount else { return nil }
        return Double(said.values.count { $0 }) / Double(itemCount)
    }

    /// Demonstrations that fulfil enough of their items. A text without a grade for every item judges nothing: its
    /// demonstration is left out under a reason of its own.
    /// - Parameters:
    ///   - prompts: what ``gradings(_:checklists:)`` made.
    ///   - graded: the run over them.
    package func kept(_ demonstrations: [Rows.Row], prompts: [Rows.Row], graded: [Answer]) -> Curated {
        let counts = Dictionary(
            prompts.enumerated().map { (Rows.id($1, $0), $1["item_count"] as? Int ?? 0) },
            uniquingKeysWith: { first, _ in first })
        let texts = Dictionary(graded.map { ($0.id, $0.response) }, uniquingKeysWith: { first, _ in first })
        var report = FilterReport(
            "Answers by checklist", reasons: [("ungraded", nil), ("too few items fulfilled", 1 - least)])
        var rows: [Rows.Row] = []
        for (index, row) in demonstrations.enumerated() {
            let id = Rows.id(row, index)
            let share = texts[id].flatMap { text in counts[id].flatMap { Self.share(in: text, itemCount: $0) } }
            guard let share else {
                report.remove("ungraded", id: id, text: Self.answer(row))
                continue
            }
            guard share >= least else {
                report.remove("too few items fulfilled", id: id, score: 1 - share, text: Self.answer(row))
                continue
            }
            report.keep()
            var row = row
            row["checklist_share"] = share
            rows.append(row)
        }
        return Curated(rows: rows, report: report)
    }

    private static func answer(_ row: Rows.Row) -> String {
        (row["messages"] as? [Rows.Row])?.last?["content"] as? String ?? row["completion"] as? String ?? ""
    }

    /// Demonstrations made of a run are named `QUERY/NUMBER`.
    private static func queryID(of id: String, among items: [String: [String]]) -> String {
        if items[id] != nil { return id }
        return id.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    }
}
