// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Recipes

/// `apus report`: the tables of finished pipelines.
struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Print the tables of a finished pipeline, or of several runs of one side by side.",
        discussion:
            "Of several runs, such as seeds, every number is a mean with the smallest and the largest in brackets.")

    @Argument(help: ArgumentHelp("Outputs of pipelines.", valueName: "output"))
    var outputs: [String]

    @Option(help: "Also write the tables as Markdown to this file.")
    var markdown: String?

    func run() throws {
        try reporting(ExitStatus.badInput) {
            let runs = try outputs.map { try ReportTable.read(URL(fileURLWithPath: $0, isDirectory: true)) }
            let tables = ReportTable.compare(runs).filter { runs.count == 1 || $0.title != PipelineReport.stagesTitle }
            guard !tables.isEmpty else { throw InputError("the outputs are of different pipelines") }
            for table in tables { show(table) }
            if let markdown {
                let text = tables.map { "## \($0.title)\n\n\($0.markdown)\n" }.joined()
                try Data(text.utf8).write(to: URL(fileURLWithPath: markdown))
            }
        }
    }

    private func show(_ table: ReportTable) {
        print("\n\(table.title)")
        let lines = [table.head] + table.rows
        let widths = table.head.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
        for line in lines {
            print(
                "  "
                    + zip(line, widths).enumerated().map { place, cell in
                        Format.pad(cell.0, cell.1, right: place > 0)
                    }.joined(separator: "  "))
        }
    }
}
