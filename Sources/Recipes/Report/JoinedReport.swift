// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// The tables of several finished pipelines on one page; runs of the same pipeline, such as seeds, become one table with
/// means and ranges.
package struct JoinedReport {
    private struct Group {
        let outputs: [URL]
        let tables: [ReportTable]
    }

    private let groups: [Group]

    /// - Throws: ``CurationError`` where an output has no report, or nothing can be put together.
    package init(_ outputs: [URL]) throws {
        var kinds: [(titles: [String], runs: [(url: URL, tables: [ReportTable])])] = []
        for url in outputs {
            let tables = try ReportTable.read(url)
            let titles = tables.map(\.title)
            if let index = kinds.firstIndex(where: { $0.titles == titles }) {
                kinds[index].runs.append((url, tables))
            } else {
                kinds.append((titles, [(url, tables)]))
            }
        }
        groups = kinds.map { kind in
            let tables = ReportTable.compare(kind.runs.map(\.tables)).filter {
                outputs.count == 1 || $0.title != PipelineReport.stagesTitle
            }
            return Group(outputs: kind.runs.map(\.url), tables: tables)
        }
        guard !tables.isEmpty else { throw CurationError("the outputs have no table in common") }
    }

    package var tables: [ReportTable] { groups.flatMap(\.tables) }

    package func markdown(_ title: String) -> String {
        "# \(title)\n\n" + tables.map { "## \($0.title)\n\n\($0.markdown)\n" }.joined()
    }

    /// With the curves of each pipeline's first run.
    package func html(_ title: String) -> String {
        let body = groups.map { group in
            group.tables.map { "<h2>\(ReportPage.escaped($0.title))</h2>\n" + ReportPage.html($0) }.joined()
                + Self.curves(group.outputs[0])
        }
        return ReportPage.html(title, body.joined())
    }

    private static func curves(_ output: URL) -> String {
        let directory = output.appendingPathComponent("report", isDirectory: true)
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []).filter {
            $0.hasSuffix(".svg")
        }
        let drawings = names.sorted().compactMap {
            try? String(contentsOf: directory.appendingPathComponent($0), encoding: .utf8)
        }
        return drawings.isEmpty
            ? "" : "<p>Curves of \(ReportPage.escaped(output.lastPathComponent)):</p>\n" + drawings.joined()
    }
}
