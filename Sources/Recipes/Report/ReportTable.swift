// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// A table of a report: the first cell of a row is its title.
package struct ReportTable: Codable, Equatable, Sendable {
    package let title: String
    package let head: [String]
    package let rows: [[String]]

    package init(title: String, head: [String], rows: [[String]]) {
        self.title = title
        self.head = head
        self.rows = rows
    }

    /// The tables of a finished pipeline: `report.json` in its output.
    /// - Throws: ``CurationError``.
    package static func read(_ output: URL) throws -> [ReportTable] {
        let url = output.appendingPathComponent("report.json")
        guard let data = try? Data(contentsOf: url),
            let tables = try? JSONDecoder().decode([ReportTable].self, from: data)
        else { throw CurationError("\(url.path): is no report; is \(output.path) the output of a finished pipeline?") }
        return tables
    }

    /// One table for several runs of the same pipeline: each number with its mean and its smallest and largest value.
    package static func compare(_ runs: [[ReportTable]]) -> [ReportTable] {
        guard let first = runs.first, runs.count > 1 else { return runs.first ?? [] }
        return first.enumerated().compactMap { index, table in
            let others = runs.compactMap {
                $0.indices.contains(index) && $0[index].head == table.head ? $0[index] : nil
            }
            guard others.count == runs.count, others.allSatisfy({ $0.rows.map(\.first) == table.rows.map(\.first) })
            else {
                return nil
            }
            let rows = table.rows.indices.map { row in
                table.head.indices.map { column in spread(others.map { $0.rows[row][column] }) }
            }
            return ReportTable(title: table.title, head: table.head, rows: rows)
        }
    }

    private static func spread(_ cells: [String]) -> String {
        let numbers = cells.compactMap(Double.init)
        guard numbers.count == cells.count, let low = numbers.min(), let high = numbers.max(), low < high else {
            return Set(cells).count == 1 ? cells[0] : cells.joined(separator: " / ")
        }
        func text(_ value: Double) -> String { String(format: high >= 10 ? "%.1f" : "%.3f", value) }
        return "\(text(numbers.reduce(0, +) / Double(numbers.count))) [\(text(low)), \(text(high))]"
    }

    package var markdown: String {
        func line(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |\n" }
        return line(head) + line(head.map { _ in "---" }) + rows.map(line).joined()
    }
}
