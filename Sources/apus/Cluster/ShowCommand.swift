// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

/// `apus show RUN`: the groups of a rollout job, finished or not, for people.
struct ShowCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Print groups of a run, or the curves of a training run; also while it runs.")

    @Argument(help: ArgumentHelp("A run directory.", valueName: "run"))
    var directory: String

    @Option(help: "Groups to print.")
    var groups = 3

    @Option(help: "Characters of each response.")
    var width = 96

    private struct Line: Decodable {
        var group: Int
        var prompt: String?
        var answer: String?
        var completion: String?
        var tokens: Int?
        var finish_reason: String?
        var reward: Double?
        var advantage: Double?
        var failed: String?
    }

    func run() throws {
        try reporting(ExitStatus.badInput) {
            if try LearningCurves(URL(fileURLWithPath: directory))?.show() != nil { return }
            let file = URL(fileURLWithPath: directory).appendingPathComponent("rollouts/text.jsonl")
            guard let text = try? String(contentsOf: file, encoding: .utf8) else {
                throw InputError(
                    "\(file.path): cannot be read; is \(directory) the directory of a rollout job?")
            }
            var last = -1
            // While the job runs the last line may be on its way.
            let whole = text.lastIndex(of: "\n").map { text[..<$0] } ?? ""
            for (number, row) in whole.split(separator: "\n").enumerated() {
                let line: Line
                do { line = try JSONDecoder().decode(Line.self, from: Data(row.utf8)) } catch {
                    throw InputError("\(file.path):\(number + 1): is no line of a run")
                }
                if line.group >= groups { break }
                if line.group != last {
                    last = line.group
                    print("\ngroup \(line.group): \(line.prompt ?? "")\(line.answer.map { "  [\($0)]" } ?? "")")
                }
                if let failed = line.failed {
                    print("  failed: \(failed)")
                    continue
                }
                show(line)
            }
            let metrics = URL(fileURLWithPath: directory).appendingPathComponent("metrics.jsonl")
            if let text = try? String(contentsOf: metrics, encoding: .utf8) { print("\n\(text)", terminator: "") }
        }
    }

    private func show(_ line: Line) {
        let reward = line.reward.map { String(format: "%.2f", $0) } ?? "  - "
        let advantage = String(format: "%+.2f", line.advantage ?? 0)
        let text = (line.completion ?? "").map { $0.isNewline ? "⏎" : $0 }
        print(
            "  reward \(reward)  advantage \(advantage)  \(Format.pad(String(line.tokens ?? 0), 4, right: true)) tokens "
                + "(\(line.finish_reason ?? ""))  \(String(text.prefix(width)))\(text.count > width ? "…" : "")")
    }
}
