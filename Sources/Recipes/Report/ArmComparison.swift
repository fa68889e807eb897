// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// Table 21's form for any training runs of a pipeline: methods by tasks, each pass@1 (pass@64), with what each run cost.
package struct ArmComparison {
    /// A training run and its evaluations by task.
    package struct Arm {
        package let title: String
        package let training: URL?
        package let evaluations: [(task: String, run: URL)]

        package init(title: String, training: URL?, evaluations: [(task: String, run: URL)]) {
            self.title = title
            self.training = training
            self.evaluations = evaluations
        }
    }

    package static func table(_ arms: [Arm]) -> ReportTable {
        let tasks = arms.flatMap(\.evaluations).map(\.task).reduce(into: [String]()) {
            if !$0.contains($1) { $0.append($1) }
        }
        let rows = arms.map { arm -> [String] in
            let cells = tasks.map { task -> String in
                guard let run = arm.evaluations.first(where: { $0.task == task })?.run else { return "-" }
                let figures = StageRecord.figures(run)
                guard let first = figures["pass@1"] ?? figures["score"] ?? figures["reward"] else { return "-" }
                let many = figures["pass@64"].map { " (\(String(format: "%.1f", 100 * $0)))" } ?? ""
                return String(format: "%.1f", 100 * first) + many
            }
            return [arm.title] + cells + cost(arm.training)
        }
        return ReportTable(
            title: "Methods by tasks: pass@1 (pass@64), in percent",
            head: ["method"] + tasks + ["tokens", "CPU hours"],
            rows: rows)
    }

    /// Trained tokens of all steps, and processor time.
    private static func cost(_ training: URL?) -> [String] {
        guard let training else { return ["-", "-"] }
        let tokens = StageRecord.metrics(training).reduce(0) { $0 + ($1["num_tokens"] ?? 0) }
        let seconds = StageRecord.read(
            training.lastPathComponent, in: training.deletingLastPathComponent())?.processorSeconds
        return [
            tokens > 0 ? String(format: "%.0f", tokens) : "-",
            seconds.map { String(format: "%.4f", $0 / 3600) } ?? "-",
        ]
    }
}
