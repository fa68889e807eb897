// SPDX-License-Identifier: Apache-2.0
//
// From queries and answers to training data: each function takes rows and gives rows with a report. Order in, order out;
// what is random depends on ids alone, so every file that is split, balanced or mixed twice comes out the same.
internal import RuntimeSupport

/// Rows that stay and why the others went.
package struct Curated {
    package var rows: [Rows.Row]
    package var report: FilterReport
}

/// The steps of the cold start, of the choice of queries for RL, and of thinking-mode fusion.
package enum Curation {
    // MARK: - Queries (Qwen3 technical report, 4.1)

    /// Splits off a validation reserve. Equal queries, whatever their ids, fall on one side.
    package static func split(_ rows: [Rows.Row], share: Double) -> (reserve: [Rows.Row], rest: [Rows.Row]) {
        func isReserved(_ row: Rows.Row) -> Bool { Rows.draw(Rows.query(row), salt: "reserve") < share }
        return (rows.filter(isReserved), rows.filter { !isReserved($0) })
    }

    /// Leaves out queries that cannot be verified, ask several things or ask for text; those that were solved without
    /// thinking; and those of the reserve.
    ///
    /// - Parameters:
    ///   - passRates: of answers without thinking, by id; queries above `solvedShare` are left out.
    ///   - reviews: what a person said of queries; corrected references are taken over.
    ///   - balancedCount: rows that stay in all, no domain with more than its even share; nil: all.
    package static func queries(
        _ rows: [Rows.Row], reserve: [Rows.Row] = [], passRates: [String: PassRate] = [:], solvedShare: Double = 0,
        reviews: Reviews = Reviews(), balancedCount: Int? = nil
    ) -> Curated {
        let rows = reviews.corrected(rows)
        var report = FilterReport(
            "Query filters", reasons: QueryFilter.allCases.map { ($0.rawValue, nil) } + [("balance", nil)])
        let reserved = Set(reserve.map(Rows.query))
        var kept: [(id: String, row: Rows.Row, domain: String)] = []
        for (index, row) in rows.enumerated() {
            let id = Rows.id(row, index)
            var reason = QueryFilter.reason(row)
            if reviews.hasWrongReference(id) { reason = .wrongReference }
            if reason == nil, reserved.contains(Rows.query(row)) { reason = .reserved }
            if reason == nil, let rate = passRates[id], rate.share > solvedShare { reason = .solvedWithoutThinking }
            if let reason {
                report.remove(reason.rawValue, id: id, score: passRates[id]?.share, text: Rows.query(row))
            } else {
                kept.append((id, row, Domain.of(row)))
            }
        }
        let before = histogram(kept.map(\.domain))
        let chosen =
            balancedCount.map { Domain.balanced(kept.map { ($0.id, $0.domain) }, count: $0) } ?? Set(kept.indices)
        var result: [Rows.Row] = []
        for (index, entry) in kept.enumerated() {
            guard chosen.contains(index) else {
                report.remove("balance", id: entry.id, text: Rows.query(entry.row))
                continue
            }
            report.keep()
            var row = entry.row
            row["domain"] = entry.domain
            result.append(row)
        }
        report.notes = ["domains before balancing: \(before)", "domains after: \(histogram(result.map(Domain.of)))"]
        return Curated(rows: result, report: report)
    }

    private static func histogram(_ names: [String]) -> String {
        var counts: [String: Int] = [:]
        for name in names { counts[name, default: 0] += 1 }
        return counts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    }

    // MARK: - Answers (4.1)

    /// Demonstrations out of a run's answers: the six filters, then at most `perQuery` answers to a query.
    ///
    /// - Parameters:
    ///   - reviews: what a person said of queries: answers that were judged by a wrong reference are left out.
    ///   - keepsUnsolved: whether answers to queries that none solved may stay.
    /// - Returns: demonstrations, and the queries that no answer solved and nobody has reviewed, for `apus data review`.
    package static func answers(
        _ answers: [Answer], queries: [Rows.Row], reserve: [Rows.Row] = [],
        thresholds: [ResponseFilter: Double] = [:], perQuery: Int = 1, reviews: Reviews = Reviews(),
        keepsUnsolved: Bool = false
    ) -> (demonstrations: Curated, review: [Rows.Row]) {
        func threshold(_ filter: ResponseFilter) -> Double { thresholds[filter] ?? filter.standardThreshold }
        let index = Shingles(reserve.map(Rows.query))
        let queries = reviews.corrected(queries)
        let rates = PassRate.of(answers.filter { !reviews.isOutdated($0) })
        var report = FilterReport(
            "Response filters",
            reasons: [("wrong_reference", nil), ("truncated", nil), ("never_solved", nil)]
                + ResponseFilter.allCases.map { ($0.rawValue, threshold($0)) }
                + [("per_query", nil)])
        let byID = Dictionary(
            queries.enumerated().map { (Rows.id($1, $0), $1) }, uniquingKeysWith: { first, _ in first })
        var rows: [Rows.Row] = []
        var taken: [String: Int] = [:]
        for answer in answers {
            if reviews.isOutdated(answer) {
                report.remove("wrong_reference", id: answer.id, text: answer.completion)
                continue
            }
            if answer.isTruncated {
                report.remove("truncated", id: answer.id, text: answer.completion)
                continue
            }
            if !keepsUnsolved, rates[answer.id]?.solved == 0 {
                report.remove("never_solved", id: answer.id, text: answer.completion)
                continue
            }
            let reason = ResponseFilter.allCases.lazy.map { ($0, $0.score(answer, reserve: index)) }
                .first { $0.1 > threshold($0.0) }
            if let (filter, score) = reason {
                report.remove(filter.rawValue, id: answer.id, score: score, text: answer.completion)
            } else if taken[answer.id, default: 0] == perQuery {
                report.remove("per_query", id: answer.id, text: answer.completion)
            } else {
                taken[answer.id, default: 0] += 1
                report.keep()
                rows.append(demonstration(answer, byID[answer.id]))
            }
        }
        let unsolved = rates.filter { $0.value.solved == 0 && !reviews.has($0.key) }.keys.sorted()
        let review = unsolved.map { id -> Rows.Row in
            var row = byID[id] ?? ["id": id]
            row["answers"] = answers.filter { $0.id == id }.prefix(3).map(\.response)
            return row
        }
        return (Curated(rows: rows, report: report), review)
    }

    private static func demonstration(_ answer: Answer, _ query: Rows.Row?) -> Rows.Row {
        var messages =
            query.flatMap(Rows.messages) ?? [["role": "user", "content": query.map(Rows.query) ?? answer.query]]
        var last: Rows.Row = ["role": "assistant", "content": answer.response]
        if !answer.thinking.isEmpty { last["reasoning_content"] = answer.thinking }
        messages.append(last)
        var row: Rows.Row = ["id": "\(answer.id)/\(answer.sibling)", "messages": messages]
        for column in ["domain", "task", "tools"] { row.object[column] = query?.object[column] }
        return row
    }

    // MARK: - Queries for RL (4.2)

    /// Query–verifier pairs: not used before, learnable (0 < pass rate), as challenging as there are, over all domains.
    ///
    /// - Parameters:
    ///   - usedIDs: of the cold start's rows.
    ///   - reviews: what a person said of queries; corrected references are taken over.
    ///   - most: pass rate above which a query is not challenging.
    package static func pairs(
        _ rows: [Rows.Row], passRates: [String: PassRate], usedIDs: Set<String>, reviews: Reviews = Reviews(),
        most: Double, count: Int?
    ) -> Curated {
        let rows = reviews.corrected(rows)
        var report = FilterReport(
            "Query-verifier pairs",
            reasons: ["wrong_reference", "used", "not_measured", "not_learnable", "not_challenging", "balance"].map {
                ($0, nil)
            })
        var kept: [(id: String, row: Rows.Row, rate: Double)] = []
        for (index, row) in rows.enumerated() {
            let id = Rows.id(row, index)
            let query = Rows.query(row)
            if reviews.hasWrongReference(id) {
                report.remove("wrong_reference", id: id, text: query)
            } else if usedIDs.contains(id) {
                report.remove("used", id: id, text: query)
            } else if let rate = passRates[id] {
                if rate.solved == 0 {
                    report.remove("not_learnable", id: id, score: 0, text: query)
                } else if rate.share > most {
                    report.remove("not_challenging", id: id, score: rate.share, text: query)
                } else {
                    kept.append((id, row, rate.share))
                }
            } else {
                report.remove("not_measured", id: id, text: query)
            }
        }
        // The hardest of each domain in turn.
        var byDomain: [String: [Int]] = [:]
        for index in kept.indices { byDomain[Domain.of(kept[index].row), default: []].append(index) }
        for domain in byDomain.keys {
            byDomain[domain]!.sort { (kept[$0].rate, kept[$0].id) < (kept[$1].rate, kept[$1].id) }
        }
        var chosen: Set<Int> = []
        let wanted = min(count ?? kept.count, kept.count)
        var depth = 0
        while chosen.count < wanted {
            for domain in byDomain.keys.sorted() where chosen.count < wanted && depth < byDomain[domain]!.count {
                chosen.insert(byDomain[domain]![depth])
            }
            depth += 1
        }
        var result: [Rows.Row] = []
        for (index, entry) in kept.enumerated() {
            guard chosen.contains(index) else {
                report.remove("balance", id: entry.id, score: entry.rate, text: Rows.query(entry.row))
                continue
            }
            report.keep()
            var row = entry.row
            row["pass_rate"] = entry.rate
            result.append(row)
        }
        report.notes = [
            "pass rates of all: \(PassRate.histogram(passRates.values.map(\.share)))",
            "pass rates of those kept: \(PassRate.histogram(chosen.map { kept[$0].rate }))",
        ]
        return Curated(rows: result, report: report)
    }
}

/// How often a query was solved, of all answers to it: one that was cut off counts as it was judged.
package struct PassRate: Equatable, Sendable {
    package var solved: Int
    package var count: Int

    package init(solved: Int, count: Int) {
        self.solved = solved
        self.count = count
    }

    package var share: Double { count == 0 ? 0 : Double(solved) / Double(count) }

    package static func of(_ answers: [Answer]) -> [String: PassRate] {
        var rates: [String: PassRate] = [:]
        for answer in answers {
            rates[answer.id, default: PassRate(solved: 0, count: 0)].count += 1
            if answer.isSolved { rates[answer.id]!.solved += 1 }
        }
        return rates
    }

    /// Counts in tenths.
    static func histogram(_ shares: [Double]) -> String {
        var counts = [Int](repeating: 0, count: 11)
        for share in shares { counts[Int((share * 10).rounded(.down))] += 1 }
        return counts.enumerated().filter { $0.element > 0 }.map {
            ".\($0.offset)".replacing(".10", with: "1") + ": \($0.element)"
        }
        .joined(separator: ", ")
    }
}
