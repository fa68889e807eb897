// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// What a chain of filters did: a count and some examples for each reason.
package struct FilterReport: Codable, Equatable, Sendable {
    package struct Reason: Codable, Equatable, Sendable {
        package let name: String
        /// Scores above it removed; nil where the reason is no score.
        package let threshold: Double?
        package var count = 0
        package var examples: [Example] = []
    }

    package struct Example: Codable, Equatable, Sendable {
        package let id: String
        package let score: Double?
        /// The beginning of the text.
        package let text: String
    }

    private static let exampleCountMax = 3

    package let title: String
    package private(set) var seen = 0
    package private(set) var kept = 0
    package private(set) var reasons: [Reason]
    /// Further lines, such as histograms.
    package var notes: [String] = []

    package init(_ title: String, reasons: [(name: String, threshold: Double?)]) {
        self.title = title
        self.reasons = reasons.map { Reason(name: $0.name, threshold: $0.threshold) }
    }

    package mutating func keep() {
        seen += 1
        kept += 1
    }

    package mutating func remove(_ name: String, id: String, score: Double? = nil, text: String) {
        seen += 1
        guard let index = reasons.firstIndex(where: { $0.name == name }) else { return }
        reasons[index].count += 1
        if reasons[index].examples.count < Self.exampleCountMax {
            reasons[index].examples.append(Example(id: id, score: score, text: String(text.prefix(160))))
        }
    }

    package func count(of name: String) -> Int { reasons.first { $0.name == name }?.count ?? 0 }

    /// For the terminal and for people.
    package var markdown: String {
        func percent(_ count: Int) -> String {
            seen == 0 ? "-" : String(format: "%.1f %%", 100 * Double(count) / Double(seen))
        }
        func line(_ text: String) -> String { text.replacing("\n", with: "⏎").replacing("|", with: "\\|") }
        var text = "# \(title)\n\n\(kept) of \(seen) kept (\(percent(kept)))\n\n"
        text += "| removed for | threshold | count | share |\n|---|---|---|---|\n"
        for reason in reasons {
            let threshold = reason.threshold.map { "\($0)" } ?? ""
            text += "| \(reason.name) | \(threshold) | \(reason.count) | \(percent(reason.count)) |\n"
        }
        for note in notes { text += "\n\(note)\n" }
        for reason in reasons where !reason.examples.isEmpty {
            text += "\n## \(reason.name)\n\n"
            for example in reason.examples {
                let score = example.score.map { String(format: " (%.2f)", $0) } ?? ""
                text += "- `\(example.id)`\(score): \(line(example.text))\n"
            }
        }
        return text
    }

    /// Counts by name: what a pipeline's gates and tables look at.
    package var figures: [String: Double] {
        var figures = Dictionary(reasons.map { ("removed/\($0.name)", Double($0.count)) }, uniquingKeysWith: +)
        figures["seen"] = Double(seen)
        figures["kept"] = Double(kept)
        return figures
    }

    /// Writes `NAME.json`, `NAME.md` and the counts as `metrics.jsonl`.
    package func write(to directory: URL, name: String) throws {
        try Rows.write([Rows.Row(figures)], to: directory.appendingPathComponent("metrics.jsonl"))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        try encoder.encode(self).write(to: directory.appendingPathComponent("\(name).json"))
        try Data(markdown.utf8).write(to: directory.appendingPathComponent("\(name).md"))
    }
}
