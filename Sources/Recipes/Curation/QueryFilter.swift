// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// Why a query is left out of the cold start (Qwen3 technical report, 4.1, where a large model judges; here rules, which
/// a user can read).
package enum QueryFilter: String, CaseIterable, Sendable {
    /// Neither a reference answer nor tests: nothing can be verified.
    case unverifiable
    /// Several questions in one.
    case multipleQuestions = "multiple_questions"
    /// Asks for text, not for an answer.
    case generalText = "general_text"
    /// Answered without thinking: it would teach to guess.
    case solvedWithoutThinking = "solved_without_thinking"
    /// Kept back for validation.
    case reserved
    /// A reviewer found its reference answer wrong.
    case wrongReference = "wrong_reference"

    /// The first of the text's own reasons; nil when it may stay.
    package static func reason(_ row: Rows.Row) -> QueryFilter? {
        let query = Rows.query(row)
        if asksForText(query) { return .generalText }
        if Rows.reference(row) == nil, row.object["tests"]?.isTrue != true { return .unverifiable }
        if hasSeveralQuestions(query) { return .multipleQuestions }
        return nil
    }

    private static func hasSeveralQuestions(_ query: String) -> Bool {
        if query.count(where: { $0 == "?" || $0 == "？" }) > 1 { return true }
        // Enumerated parts: (a) … (b) …, or 1) … 2) … at the start of lines.
        let lowered = query.lowercased()
        if lowered.contains("(a)") && lowered.contains("(b)") { return !isMultipleChoice(lowered) }
        let numbered = lowered.split(separator: "\n").filter { line in
            line.drop(while: \.isWhitespace).wholeMatch(of: /[1-9][.)]\s.+/) != nil
        }
        if numbered.count > 1 { return !isMultipleChoice(lowered) }
        return ["also find", "and also", "additionally,", "as well as explain"].contains(where: lowered.contains)
    }

    private static func isMultipleChoice(_ query: String) -> Bool {
        ["which of the following", "choose", "options", "select the"].contains(where: query.contains)
    }

    private static let textVerbs: Set = [
        "write", "compose", "describe", "summarize", "summarise", "discuss", "draft", "rewrite", "paraphrase", "tell",
        "imagine", "invent", "brainstorm",
    ]
    private static let textNouns = [
        "essay", "poem", "story", "letter", "email", "e-mail", "article", "paragraph", "speech", "blog", "song",
        "review",
        "slogan", "summary", "dialogue", "opinion",
    ]

    private static func asksForText(_ query: String) -> Bool {
        let lowered = query.lowercased()
        let words = lowered.split { !$0.isLetter && $0 != "-" }
        guard let verb = words.prefix(6).first(where: { textVerbs.contains(String($0)) }) else { return false }
        // "Write a function" has tests, "write 7/8 as a decimal" an answer.
        return textNouns.contains { noun in words.contains { $0 == noun || $0 == noun + "s" } }
            || ["describe", "discuss", "imagine", "brainstorm"].contains(verb)
    }
}

/// Subject of a query, from its own column or from its words.
package enum Domain: String, CaseIterable, Sendable {
    case mathematics, code, logic, science, other

    package static func of(_ row: Rows.Row) -> String {
        if let named = row["domain"] as? String, !named.isEmpty { return named }
        let query = Rows.query(row).lowercased()
        func has(_ words: [String]) -> Bool { words.contains(where: query.contains) }
        if row["tests"] != nil || has(["python", "function", "program", "code", "algorithm", "array"]) {
            return Domain.code.rawValue
        }
        if has(["knight", "knave", "liar", "puzzle", "deduce", "logic", "if and only if", "who owns", "sits next"]) {
            return Domain.logic.rawValue
        }
        if has(["velocity", "mass", "acid", "molecule", "cell", "energy", "voltage", "reaction", "planet", "gene"]) {
            return Domain.science.rawValue
        }
        if has([
            "solve", "compute", "sum", "integral", "equation", "how many", "triangle", "probability", "+", "=",
            "what is",
        ]) {
            return Domain.mathematics.rawValue
        }
        return Domain.other.rawValue
    }

    /// Of rows with domains, those that stay when no domain may have more than its even share of `count`; small domains
    /// give what they do not need to the others. Which rows of a domain stay depends on their ids alone.
    package static func balanced(_ rows: [(id: String, domain: String)], count: Int) -> Set<Int> {
        var members: [String: [Int]] = [:]
        for (index, row) in rows.enumerated() { members[row.domain, default: []].append(index) }
        for domain in members.keys {
            members[domain]!.sort { Rows.draw(rows[$0].id, salt: "balance") < Rows.draw(rows[$1].id, salt: "balance") }
        }
        var kept: Set<Int> = []
        var left = min(count, rows.count)
        let order = members.sorted { ($0.value.count, $0.key) < ($1.value.count, $1.key) }
        for (place, domain) in order.enumerated() {
            let share = (left + order.count - place - 1) / (order.count - place)
            let taken = domain.value.prefix(min(share, left))
            kept.formUnion(taken)
            left -= taken.count
        }
        return kept
    }
}
