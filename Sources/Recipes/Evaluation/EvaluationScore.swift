// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import RuntimeSupport

/// A run without a single judged answer.
package struct EvaluationFailure: Error, CustomStringConvertible { package let description: String }

/// The figures of a finished evaluation run: `metrics.jsonl` with `score`, `ci95`, `questions`, `samples`, `tokens`,
/// `truncated`, `failed`, pass@k, and one figure per group.
///
/// Every figure is over all samples that were asked for. What could not be judged counts as wrong, as in other evaluation
/// programs, so a score is never better for a verifier that fails on hard answers; `failed` says how many those were, and
/// `score_of_judged` what the score is without them. A run in which nothing could be judged has no figures.
package struct EvaluationScore {
    /// Column of the groups.
    package var by: String?
    /// Families of groups: a family's figure is the mean of its groups'.
    package var families: [String: [String]] = [:]
    /// Counts what scored at least this as right and everything else as wrong; nil: rewards as they are.
    package var threshold: Double?

    package init() {}

    /// Of a rollout run.
    /// - Parameter rows: the data that were asked.
    /// - Throws: ``CurationError``.
    package func generated(_ run: URL, rows: URL) throws -> [String: Double] {
        var questions = try self.rows(rows)
        var samples = Samples()
        let lines = try Rows.read(run.appendingPathComponent("rollouts/text.jsonl"))
        let groupSize = (lines.compactMap { $0["sibling"] as? Int }.max() ?? 0) + 1
        var (tokens, truncated) = (0.0, 0)
        for line in lines {
            guard let id = line["id"] as? String, questions[id] != nil else { continue }
            if let reason = line["failed"] as? String {
                for _ in 0..<groupSize { samples.fail(id, reason) }
                continue
            }
            tokens += line.number("tokens") ?? 0
            if line["outcome"] as? String == "truncated" { truncated += 1 }
            if let reward = line.number("reward") {
                samples.judge(id, threshold.map { reward >= $0 ? 1 : 0 } ?? reward)
            } else if line["outcome"] as? String == "truncated" {
                // Cut off is wrong: the model had its chance.
                samples.judge(id, 0)
            } else {
                samples.fail(
                    id, line["outcome_detail"] as? String ?? line["outcome"] as? String ?? "no reason was given")
            }
        }
        try samples.check(run)
        // What the job left out (too long a prompt, a limit) was not asked.
        questions = questions.filter { samples.scores[$0.key] != nil }
        var figures = self.figures(questions, samples)
        figures["tokens"] = tokens / Double(samples.count)
        figures["truncated"] = Double(truncated) / Double(samples.count)
        return figures
    }

    /// Of a score run over ranked choices: the choice with the highest log-probability counts.
    package func ranked(_ run: URL, rows: URL) throws -> [String: Double] {
        var questions: [String: Rows.Row] = [:]
        for row in try Rows.read(rows) {
            guard let id = row["question_id"] as? String else {
                throw CurationError("\(rows.path): holds no ranked choices; see apus eval prepare --rank-choices")
            }
            questions[id] = row
        }
        var sums: [String: [Int: Double]] = [:]
        var reasons: [String: String] = [:]
        for line in try Rows.read(run.appendingPathComponent("scores/records.jsonl")) {
            guard let id = line["id"] as? String, let slash = id.lastIndex(of: "/"),
                let number = Int(id[slash...].dropFirst())
            else { continue }
            if let reason = line["failed"] as? String { reasons[String(id[..<slash])] = reason }
            guard let values = line.object["logprobs"]?.arrayValue else { continue }
            // The prompt's part is the same for every choice, so it need not be taken off.
            sums[String(id[..<slash]), default: [:]][number] = values.reduce(0) { $0 + ($1.doubleValue ?? 0) }
        }
        var samples = Samples()
        for (id, row) in questions {
            guard let choices = row["choices"] as? [String], let sums = sums[id], sums.count == choices.count else {
                samples.fail(id, reasons[id] ?? "not all of its choices were scored")
                continue
            }
            let best = sums.max { ($0.value, $1.key) < ($1.value, $0.key) }!.key
            samples.judge(id, choices[best] == row["answer"] as? String ? 1 : 0)
        }
        try samples.check(run)
        return figures(questions, samples)
    }

    /// What became of the samples of a run.
    private struct Samples {
        /// Of each question; what failed is a 0 among them.
        private(set) var scores: [String: [Double]] = [:]
        private var judged: [String: [Double]] = [:]
        private(set) var failures: [String: Int] = [:]
        private var reasons: [String: Int] = [:]

        var count: Int { scores.values.reduce(0) { $0 + $1.count } }
        var failedCount: Int { failures.values.reduce(0, +) }

        /// Mean over the questions that have a judged sample, of judged samples alone.
        var judgedMean: Double {
            let means = judged.sorted { $0.key < $1.key }.map { $0.value.reduce(0, +) / Double($0.value.count) }
            return means.reduce(0, +) / Double(means.count)
        }

        mutating func judge(_ id: String, _ score: Double) {
            scores[id, default: []].append(score)
            judged[id, default: []].append(score)
        }

        mutating func fail(_ id: String, _ reason: String) {
            scores[id, default: []].append(0)
            failures[id, default: 0] += 1
            reasons[reason, default: 0] += 1
        }

        /// - Throws: ``EvaluationFailure`` when there is no judged sample.
        func check(_ run: URL) throws {
            guard judged.isEmpty else { return }
            guard let reason = reasons.min(by: { ($1.value, $0.key) < ($0.value, $1.key) })?.key else {
                throw EvaluationFailure(
                    description: "\(run.path): holds no answer to any of the questions; were these rows asked?")
            }
            throw EvaluationFailure(
                description: "\(run.path): none of \(count) answers could be judged: \(reason)")
        }
    }

    private func rows(_ url: URL) throws -> [String: Rows.Row] {
        var result: [String: Rows.Row] = [:]
        for (index, row) in try Rows.read(url).enumerated() { result[Rows.id(row, index)] = row }
        return result
    }

    private func figures(_ questions: [String: Rows.Row], _ samples: Samples) -> [String: Double] {
        let statistics = SampleStatistics(
            questions.keys.sorted().map { id in
                SampleStatistics.Question(
                    scores: samples.scores[id] ?? [], group: by.flatMap { questions[id]?[$0] }.map { "\($0)" },
                    difficulty: questions[id]?.number("difficulty"))
            })
        var figures = [
            "score": statistics.mean, "ci95": statistics.halfWidth, "questions": Double(statistics.questions.count),
            "samples": Double(samples.count), "failed": Double(samples.failedCount),
        ]
        if samples.failedCount > 0 { figures["score_of_judged"] = samples.judgedMean }
        for k in [1, 2, 4, 8, 16, 32, 64] {
            if let pass = statistics.pass(at: k) {
                figures["pass@\(k)"] = pass.value
                figures["pass@\(k)/ci95"] = pass.halfWidth
            }
        }
        figures["rating"] = statistics.rating
        for (group, mean) in statistics.groups { figures["\(by ?? "group")/\(group)"] = mean }
        for (id, count) in samples.failures {
            guard let by, let group = questions[id]?[by] else { continue }
            figures["failed/\(by)/\(group)", default: 0] += Double(count)
        }
        figures["macro"] = statistics.macroMean
        for (family, members) in families {
            let means = members.compactMap { statistics.groups[$0] }
            if !means.isEmpty { figures["family/\(family)"] = means.reduce(0, +) / Double(means.count) }
        }
        return figures
    }

    /// Writes figures as the last line of a run's metrics.
    package static func write(_ figures: [String: Double], to url: URL) throws {
        try Rows.write([Rows.Row(figures)], to: url)
    }
}
