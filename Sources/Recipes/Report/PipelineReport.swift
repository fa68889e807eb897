// SPDX-License-Identifier: Apache-2.0
package import Foundation
internal import JobSpecification

/// What a pipeline came to: `report.md`, `report.html`, `report.json`, and its curves as `report/*.csv` and `report/*.svg` in
/// its output. First what the pipeline's `report:` asks for, then what every pipeline is asked about: scores before and after
/// each training, learning curves, answers of both to the same questions, and what the terminal shows of the stages.
package struct PipelineReport {
    package let pipeline: Pipeline

    package init(_ pipeline: Pipeline) { self.pipeline = pipeline }

    /// Title of the table of all stages.
    package static let stagesTitle = "Stages"

    /// - Throws: when a file cannot be written.
    package func write() throws {
        let directory = pipeline.output.appendingPathComponent("report", isDirectory: true)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        var markdown = "# \(pipeline.name)\n"
        var page = ReportPage(pipeline.name)
        var tables: [ReportTable] = []
        var number = 0
        func add(_ table: ReportTable) {
            tables.append(table)
            markdown += "\n## \(table.title)\n\n" + table.markdown
            page.add(table)
        }
        func file(_ chart: LineChart) throws {
            number += 1
            let name = "curve-\(number)"
            try Data(chart.svg.utf8).write(to: directory.appendingPathComponent("\(name).svg"))
            var csv = "line,\(chart.axis),value\n"
            for line in chart.lines {
                for point in line.points { csv += "\(line.name),\(point.x),\(point.y)\n" }
            }
            try Data(csv.utf8).write(to: directory.appendingPathComponent("\(name).csv"))
            markdown += "\n## \(chart.title)\n\n![\(chart.title)](report/\(name).svg)\n"
        }
        func add(_ chart: LineChart) throws {
            try file(chart)
            page.add(chart)
        }
        for section in pipeline.report {
            switch section {
            case .table(let title, let columns, let beside, let rows):
                add(
                    ReportTable(
                        title: title, head: [""] + columns.map(\.title) + beside,
                        rows: rows.map { row in
                            [row.title] + columns.map { figure(row.stage + $0.suffix, $0.figure) } + row.beside
                        }))
            case .curve(let title, let axis, let name, let points):
                let line = points.compactMap { point in value(point.stage, name).map { (x: point.x, y: $0) } }
                try add(LineChart(title: title, axis: axis, lines: [(name, line)]))
                add(
                    ReportTable(
                        title: title, head: [axis, name],
                        rows: points.map { [String(format: "%g", $0.x), figure($0.stage, name)] }))
            case .groups(let title, let prefix, let stages): add(groups(title, prefix, stages))
            case .claims(let title, let claims):
                add(
                    ReportTable(
                        title: title, head: ["", "the report", "here", "", "beside", "holds"],
                        rows: claims.map { claim in
                            let (left, right) = (claim.left.value(value), claim.right.value(value))
                            let holds = left.flatMap { left in right.map { claim.relation.holds(left, $0) } }
                            return [
                                claim.text, claim.original, text(left), claim.relation.rawValue, text(right),
                                holds.map { $0 ? "yes" : "no" } ?? "-",
                            ]
                        }))
            case .training(let title, let stages, let figures):
                for name in figures {
                    let lines = stages.map { stage in
                        (
                            name: stage,
                            points: StageRecord.metrics(pipeline.directory(of: stage)).compactMap { row in
                                row["step"].flatMap { step in row[name].map { (x: step, y: $0) } }
                            }
                        )
                    }
                    try add(LineChart(title: "\(title): \(name)", axis: "step", lines: lines))
                }
            }
        }
        let runs = PipelineRuns(pipeline)
        for table in [Self.scores(runs.comparisons, runs.evaluations), results].compactMap({ $0 }) { add(table) }
        for training in runs.trainings {
            let charts = Self.curves(training, StageRecord.metrics(pipeline.directory(of: training.stage)))
            guard !charts.isEmpty else { continue }
            page.heading("Learning curves of \(training.stage) (\(training.method.rawValue))")
            page.add(charts)
            for chart in charts { try file(chart) }
        }
        let shown = runs.comparisons.filter { $0.before != nil }.prefix(Self.comparisonCountMax)
        let answered = shown.isEmpty ? runs.comparisons.prefix(1) : shown
        if !answered.isEmpty {
            page.heading("Answers before and after")
            page.paragraph(
                "The first response to each question. All of them: rollouts/text.jsonl in the stages' directories.")
            for comparison in answered { page.add(comparison, comparison.pairs(Self.answerCountMax)) }
        }
        add(stages)
        try Data(markdown.utf8).write(to: pipeline.output.appendingPathComponent("report.md"))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        try encoder.encode(tables).write(to: pipeline.output.appendingPathComponent("report.json"))
        try Data(page.html.utf8).write(to: pipeline.output.appendingPathComponent("report.html"))
    }

    private static let comparisonCountMax = 6
    private static let answerCountMax = 6

    /// Figures of a training run's curves, in the order in which they matter; those that do not change are left out.
    private static let curveNames = [
        "reward", "loss", "accuracy", "distillation/divergence", "completions/mean_length", "entropy", "grad_norm",
        "learning_rate",
    ]

    private static func curves(_ training: PipelineRuns.Training, _ rows: [[String: Double]]) -> [LineChart] {
        curveNames.compactMap { name in
            let points = rows.compactMap { row in row["step"].flatMap { step in row[name].map { (x: step, y: $0) } } }
            guard points.count > 1, Set(points.map(\.y)).count > 1 else { return nil }
            var chart = LineChart(title: "\(training.stage): \(name)", axis: "step", lines: [(name, points)])
            chart.isSmall = true
            return chart
        }
    }

    /// One line per training and way of asking; evaluations of other models come last. nil where nothing was evaluated.
    private static func scores(
        _ comparisons: [PipelineRuns.Comparison], _ evaluations: [PipelineRuns.Evaluation]
    ) -> ReportTable? {
        func cells(_ evaluation: PipelineRuns.Evaluation?) -> [String] {
            guard let evaluation else { return ["-", "-"] }
            let scores = evaluation.scores
            return [scores.mean, scores.halfWidth].map { $0.isFinite ? String(format: "%.3f", $0) : "-" }
        }
        var rows = comparisons.map { comparison in
            [comparison.title] + cells(comparison.before) + cells(comparison.after) + [what(comparison.after)]
        }
        let used = Set(comparisons.flatMap { [$0.before?.stage, $0.after.stage] }.compactMap { $0 })
        rows += evaluations.filter { !used.contains($0.stage) }.map { evaluation in
            [evaluation.stage, "-", "-"] + cells(evaluation) + [what(evaluation)]
        }
        return rows.isEmpty
            ? nil
            : ReportTable(
                title: "Scores before and after, with 95 % intervals",
                head: ["", "before", "±", "after", "±", "score is"], rows: rows)
    }

    private static func what(_ evaluation: PipelineRuns.Evaluation) -> String {
        let questions = evaluation.scores.questions
        return "\(evaluation.isPass ? "pass@1" : "mean reward") of \(questions.count) questions, "
            + "\(questions.map(\.scores.count).max() ?? 0) responses each"
    }

    /// What the terminal shows; nil where no stage has figures to show.
    private var results: ReportTable? {
        let names = pipeline.stages.flatMap(\.figures).reduce(into: [String]()) {
            if !$0.contains($1) { $0.append($1) }
        }
        guard !names.isEmpty else { return nil }
        return ReportTable(
            title: "Figures of the stages", head: ["stage", "seconds"] + names,
            rows: pipeline.stages.map { stage in
                let record = StageRecord.read(stage.name, in: pipeline.output)
                return [stage.name, record?.seconds.map { String(format: "%.1f", $0) } ?? "-"]
                    + names.map { name in
                        stage.figures.contains(name)
                            ? record?.figures[name].map { String(format: "%.3f", $0) } ?? "-" : ""
                    }
            })
    }

    /// Every stage: what it is made from, its recipe, its time.
    private var stages: ReportTable {
        ReportTable(
            title: Self.stagesTitle, head: ["stage", "from", "recipe", "seconds", "CPU seconds"],
            rows: pipeline.stages.map { stage in
                let record = StageRecord.read(stage.name, in: pipeline.output)
                return [
                    stage.name, stage.inputs.joined(separator: ", "), String(record?.recipe.prefix(12) ?? "-"),
                    record?.seconds.map { String(format: "%.1f", $0) } ?? "-",
                    record?.processorSeconds.map { String(format: "%.1f", $0) } ?? "-",
                ]
            })
    }

    private func groups(_ title: String, _ prefix: String, _ stages: [ReportSection.NamedStage]) -> ReportTable {
        let found = stages.map { StageRecord.read($0.stage, in: pipeline.output)?.figures ?? [:] }
        func names(_ prefix: String) -> [String] {
            Set(found.flatMap(\.keys).filter { $0.hasPrefix(prefix) }).sorted()
        }
        let lines =
            names(prefix).map { (String($0.dropFirst(prefix.count)), $0) }
            + names("family/").map { (String($0.dropFirst("family/".count)) + " (family)", $0) }
            + [("mean", "macro")]
        return ReportTable(
            title: title, head: [""] + stages.map(\.title),
            rows: lines.map { line in [line.0] + stages.map { figure($0.stage, line.1) } })
    }

    private func value(_ stage: String, _ figure: String) -> Double? {
        StageRecord.read(stage, in: pipeline.output)?.figure(figure)
    }

    private func figure(_ stage: String, _ figure: String) -> String { text(value(stage, figure)) }

    private func text(_ value: Double?) -> String {
        value.map { String(format: abs($0) >= 10 ? "%.1f" : "%.3f", $0) } ?? "-"
    }
}
