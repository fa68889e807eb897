// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import JobSpecification

/// A page of a report: one HTML file without anything from elsewhere, for light and dark screens. What models and data say
/// is text and nothing else: it is escaped, and the page allows no script.
struct ReportPage {
    private var body = ""
    let title: String

    /// Characters of one text that are shown.
    private static let textLengthMax = 6000

    init(_ title: String) { self.title = title }

    mutating func heading(_ text: String) { body += "<h2>\(Self.escaped(text))</h2>\n" }

    mutating func paragraph(_ text: String) { body += "<p>\(Self.escaped(text))</p>\n" }

    mutating func add(_ table: ReportTable) {
        heading(table.title)
        body += Self.html(table)
    }

    mutating func add(_ chart: LineChart) {
        heading(chart.title)
        body += chart.svg
    }

    /// Small charts side by side.
    mutating func add(_ charts: [LineChart]) {
        body += "<div class=\"charts\">\n" + charts.map(\.svg).joined() + "</div>\n"
    }

    /// Answers to the same questions.
    mutating func add(_ comparison: PipelineRuns.Comparison, _ pairs: [PipelineRuns.Comparison.Pair]) {
        body += "<h3>\(Self.escaped(comparison.title))</h3>\n"
        for pair in pairs {
            body += "<details\(pair.after.id == pairs.first?.after.id ? " open" : "")><summary>"
            body += Self.escaped(Self.line(pair.after.query)) + " <span class=\"quiet\">"
            if let before = pair.before { body += Self.escaped(Self.score(before)) + " → " }
            body += Self.escaped(Self.score(pair.after)) + "</span></summary>\n"
            body += Self.text("question", pair.after.query)
            if let reference = pair.after.reference { body += Self.text("reference", reference) }
            if let before = pair.before { body += Self.text("before, \(Self.score(before))", before.completion) }
            body += Self.text("after, \(Self.score(pair.after))", pair.after.completion) + "</details>\n"
        }
    }

    private static func score(_ answer: Answer) -> String {
        String(format: "%.3g", answer.reward) + (answer.isTruncated ? ", cut off" : "")
    }

    private static func line(_ text: String) -> String {
        let words = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        return words.count > 100 ? words.prefix(100) + "…" : words
    }

    private static func text(_ label: String, _ text: String) -> String {
        let left = text.count - textLengthMax
        let shown = left > 0 ? "\(text.prefix(textLengthMax))… (\(left) characters more)" : text
        return "<p class=\"label\">\(escaped(label))</p><pre>\(escaped(shown))</pre>\n"
    }

    static func html(_ table: ReportTable) -> String {
        func line(_ cells: [String], _ tag: String) -> String {
            "<tr>" + cells.map { "<\(tag)>\(escaped($0))</\(tag)>" }.joined() + "</tr>\n"
        }
        return "<div class=\"wide\"><table>\n" + line(table.head, "th") + table.rows.map { line($0, "td") }.joined()
            + "</table></div>\n"
    }

    var html: String { Self.html(title, body) }

    static func html(_ title: String, _ body: String) -> String {
        """
        <!doctype html>
        <html lang="en"><head><meta charset="utf-8">
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>\(escaped(title))</title>
        <style>
        :root { color-scheme: light dark; --text: #1f2328; --quiet: #59636e; --line: #d1d9e0; --fill: #f6f8fa }
        @media (prefers-color-scheme: dark) {
          :root { --text: #e6edf3; --quiet: #9198a1; --line: #3d444d; --fill: #161b22 }
          body { background: #0d1117 }
        }
        body { font: 15px/1.5 sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: var(--text) }
        table { border-collapse: collapse } .wide { overflow-x: auto }
        th, td { border: 1px solid var(--line); padding: .25rem .6rem; text-align: right }
        th:first-child, td:first-child { text-align: left } th { background: var(--fill) }
        svg { max-width: 100%; color: var(--text) } .charts { display: flex; flex-wrap: wrap; gap: .5rem }
        .quiet, .label { color: var(--quiet) } .label { margin: .6rem 0 .1rem }
        details { border: 1px solid var(--line); border-radius: 6px; padding: .4rem .8rem; margin: .5rem 0 }
        summary { cursor: pointer } pre { margin: 0; padding: .5rem; background: var(--fill); overflow: auto }
        pre { max-height: 24rem; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate }
        </style></head><body>
        <h1>\(escaped(title))</h1>
        \(body)</body></html>

        """
    }

    /// Text as text, in elements and in quoted attributes; control characters, which no page may hold, are shown as U+FFFD.
    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            case "\n", "\t": result.unicodeScalars.append(scalar)
            case _ where scalar.properties.generalCategory == .control || scalar.value & 0xFFFE == 0xFFFE:
                result += "\u{FFFD}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}

extension PipelineRuns.Comparison {
    /// Which stages are compared.
    var title: String {
        guard let before else { return "\(after.stage) (after \(training.stage))" }
        return "\(before.stage) → \(after.stage) (\(training.method.rawValue) in \(training.stage))"
    }
}
