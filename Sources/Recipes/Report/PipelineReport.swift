// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// What a pipeline came to, as Markdown, as one HTML page, and its curves as CSV and SVG files: `report.md`, `report.html`, `report.json`,
/// `report/*.csv`, `report/*.svg` in its output.
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
        var page = ""
        var tables: [ReportTable] = []
        var number = 0
        func add(_ table: ReportTable) {
            tables.append(table)
            markdown += "\n## \(table.title)\n\n" + table.markdown
            page += "<h2>\(LineChart.escaped(table.title))</h2>\n" + Self.html(table)
        }
        func add(_ chart: LineChart) throws {
            number += 1
            let name = "curve-\(number)"
            try Data(chart.svg.utf8).write(to: directory.appendingPathComponent("\(name).svg"))
            var csv = "line,\(chart.axis),value\n"
            for line in chart.lines {
                for point in line.points { csv += "\(line.name),\(point.x),\(point.y)\n" }
            }
            try Data(csv.utf8).write(to: directory.appendingPathComponent("\(name).csv"))
            markdown += "\n## \(chart.title)\n\n![\(chart.title)](report/\(name).svg)\n"
            page += "<h2>\(LineChart.escaped(chart.title))</h2>\n" + chart.svg
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
        add(stages)
        try Data(markdown.utf8).write(to: pipeline.output.appendingPathComponent("report.md"))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        try encoder.encode(tables).write(to: pipeline.output.appendingPathComponent("report.json"))
        try Data(Self.page(pipeline.name, page).utf8).write(to: pipeline.output.appendingPathComponent("report.html"))
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

    static func html(_ table: ReportTable) -> String {
        func line(_ cells: [String], _ tag: String) -> String {
            "<tr>" + cells.map { "<\(tag)>\(LineChart.escaped($0))</\(tag)>" }.joined() + "</tr>\n"
        }
        return "<table>\n" + line(table.head, "th") + table.rows.map { line($0, "td") }.joined() + "</table>\n"
    }

    static func page(_ title: String, _ body: String) -> String {
        """
        <!doctype html>
        <html lang="en"><head><meta charset="utf-8"><title>\(LineChart.escaped(title))</title>
        <style>
        body { font: 15px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1f2328 }
        table { border-collapse: collapse } th, td { border: 1px solid #d0d7de; padding: .25rem .6rem; text-align: right }
        th:first-child, td:first-child { text-align: left } th { background: #f6f8fa } svg { max-width: 100% }
        </style></head><body>
        <h1>\(LineChart.escaped(title))</h1>
        \(body)</body></html>

        """
    }
}
