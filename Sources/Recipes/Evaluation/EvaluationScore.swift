// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// The figures of a finished evaluation run: `metrics.jsonl` with `score`, `ci95`, `questions`, `samples`, `tokens`,
/// `truncated`, `failed`, pass@k, and one figure per group.
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
        let questions = try self.rows(rows)
        var scores: [String: [Double]] = [:]
        var (samples, tokens, truncated, failed) = (0, 0.0, 0, 0)
        for line in try Rows.read(run.appendingPathComponent("rollouts/text.jsonl")) {
            guard let id = line["id"] as? String, questions[id] != nil else { continue }
            samples += 1
            tokens += (line["tokens"] as? NSNumber)?.doubleValue ?? 0
            if line["outcome"] as? String == "truncated" { truncated += 1 }
            guard let reward = (line["reward"] as? NSNumber)?.doubleValue else {
                // Cut off is wrong; a verifier that failed says nothing about the model.
                if line["outcome"] as? String == "truncated" { scores[id, default: []].append(0) } else { failed += 1 }
                continue
            }
            scores[id, default: []].append(threshold.map { reward >= $0 ? 1 : 0 } ?? reward)
        }
        var figures = self.figures(questions, scores)
        figures["samples"] = Double(samples)
        figures["tokens"] = samples > 0 ? tokens / Double(samples) : 0
        figures["truncated"] = samples > 0 ? Double(truncated) / Double(samples) : 0
        figures["failed"] = Double(failed)
        return figures
    }

    /// Of a score run over ranked choices: the choice with the highest log-probability counts.
    package func ranked(_ run: URL, rows: URL) throws -> [String: Double] {
        var questions: [String: Rows.Row] = [:]
        for row in try Rows.read(rows) {
            guard let id = row["question_id"] as? String else {
                throw CurationError("\(rows.path): holds no ranked choices; see apus eval prepare --ranked")
            }
            questions[id] = row
        }
        var sums: [String: [Int: Double]] = [:]
        for line in try Rows.read(run.appendingPathComponent("scores/records.jsonl")) {
            guard let id = line["id"] as? String, let slash = id.lastIndex(of: "/"),
                let number = Int(id[slash...].dropFirst()),
                let values = line["logprobs"] as? [NSNumber]
            else { continue }
            // The prompt's part is the same for every choice, so it need not be taken off.
            sums[String(id[..<slash]), default: [:]][number] = values.reduce(0) { $0 + $1.doubleValue }
        }
        var scores: [String: [Double]] = [:]
        for (id, row) in questions {
            guard let choices = row["choices"] as? [String], let sums = sums[id], sums.count == choices.count else {
                throw CurationError("question \(id): not all of its choices were scored")
            }
            let best = sums.max { ($0.value, $1.key) < ($1.value, $0.key) }!.key
            scores[id] = [choices[best] == row["answer"] as? String ? 1 : 0]
        }
        var figures = self.figures(questions, scores)
        figures["samples"] = Double(scores.count)
        return figures
    }

    private func rows(_ url: URL) throws -> [String: Rows.Row] {
        var result: [String: Rows.Row] = [:]
        for (index, row) in try Rows.read(url).enumerated() { result[Rows.id(row, index)] = row }
        return result
    }

    private func figures(_ questions: [String: Rows.Row], _ scores: [String: [Double]]) -> [String: Double] {
        let statistics = SampleStatistics(
            questions.keys.sorted().map { id in
                SampleStatistics.Question(
                    scores: scores[id] ?? [], group: by.flatMap { questions[id]?[$0] }.map { "\($0)" },
                    difficulty: (questions[id]?["difficulty"] as? NSNumber)?.doubleValue)
            })
        var figures = [
            "score": statistics.mean, "ci95": statistics.halfWidth, "questions": Double(statistics.questions.count),
        ]
        for k in [1, 2, 4, 8, 16, 32, 64] {
            if let pass = statistics.pass(at: k) {
                figures["pass@\(k)"] = pass.value
                figures["pass@\(k)/ci95"] = pass.halfWidth
            }
        }
        figures["rating"] = statistics.rating
        for (group, mean) in statistics.groups { figures["\(by ?? "group")/\(group)"] = mean }
        figures["macro"] = statistics.macroMean
        for (family, members) in families {
            let means = members.compactMap { statistics.groups[$0] }
            if !means.isEmpty { figures["family/\(family)"] = means.reduce(0, +) / Double(means.count) }
        }
        return figures
    }

    /// Writes figures as the last line of a run's metrics.
    package static func write(_ figures: [String: Double], to url: URL) throws {
        try Rows.write([figures], to: url)
    }
}
