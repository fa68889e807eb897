// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Recipes

/// `apus report`: what runs came to and where they come from.
struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Print the tables of finished pipelines; compare methods; show where a run comes from.",
        subcommands: [TablesCommand.self, CompareCommand.self, LineageCommand.self],
        defaultSubcommand: TablesCommand.self)
}

/// `apus report lineage`: parents, data and recipes of a run or checkpoint.
struct LineageCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lineage", abstract: "Show what a run or a checkpoint was made from, with the hashes of each step."
    )

    @Argument(help: "A run, a stage of a pipeline, or a checkpoint.")
    var directory: String

    func run() throws {
        try reporting(ExitStatus.badInput) {
            for line in try Lineage.of(URL(fileURLWithPath: directory, isDirectory: true)) {
                print(String(repeating: "  ", count: line.depth) + line.text)
            }
        }
    }
}

/// `apus report compare`: Table 21's form.
struct CompareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare",
        abstract:
            "Compare training runs on tasks: pass@1 (pass@64), tokens and CPU hours, as the Qwen3 report's Table 21.",
        discussion: """
            One --arm per method: TITLE,TRAINING-RUN,TASK=EVALUATION-RUN,… with - for no training of its own, such as
            apus report compare --arm 'off-policy,-,registers=off-policy-answers' --arm '+ RL,rl,registers=rl-answers'
            """)

    @Option(help: "A method; may be repeated.")
    var arm: [String]

    func run() throws {
        try reporting(ExitStatus.badInput) {
            let arms = try arm.map { text -> ArmComparison.Arm in
                let parts = text.split(separator: ",").map(String.init)
                guard parts.count > 2 else { throw InputError("--arm \(text): expected TITLE,TRAINING-RUN,TASK=RUN") }
                let evaluations = try parts.dropFirst(2).map { text -> (task: String, run: URL) in
                    let pair = text.split(separator: "=", maxSplits: 1).map(String.init)
                    guard pair.count == 2, FileManager.default.fileExists(atPath: pair[1] + "/metrics.jsonl") else {
                        throw InputError("--arm: '\(text)' is no TASK=RUN of a finished evaluation")
                    }
                    return (pair[0], URL(fileURLWithPath: pair[1], isDirectory: true).standardizedFileURL)
                }
                let training =
                    parts[1] == "-" ? nil : URL(fileURLWithPath: parts[1], isDirectory: true).standardizedFileURL
                return ArmComparison.Arm(title: parts[0], training: training, evaluations: evaluations)
            }
            TablesCommand.show(ArmComparison.table(arms))
        }
    }
}

/// `apus report`: the tables of finished pipelines.
struct TablesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tables",
        abstract: "Print the tables of a finished pipeline, or of several runs of one side by side.",
        discussion:
            "Of several runs, such as seeds, every number is a mean with the smallest and the largest in brackets.")

    @Argument(help: ArgumentHelp("Outputs of pipelines; runs of the same one are put together.", valueName: "output"))
    var outputs: [String]

    @Option(help: "Also write the tables as Markdown to this file.")
    var markdown: String?

    @Option(help: "Also write one HTML page with tables and curves to this file.")
    var page: String?

    @Option(help: "Title of the page.")
    var title = "Report"

    func run() throws {
        try reporting(ExitStatus.badInput) {
            let report = try JoinedReport(outputs.map { URL(fileURLWithPath: $0, isDirectory: true) })
            for table in report.tables { Self.show(table) }
            if let markdown { try Data(report.markdown(title).utf8).write(to: URL(fileURLWithPath: markdown)) }
            if let page { try Data(report.html(title).utf8).write(to: URL(fileURLWithPath: page)) }
        }
    }

    static func show(_ table: ReportTable) {
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
