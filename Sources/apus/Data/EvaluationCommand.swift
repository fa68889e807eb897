// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import Foundation
import Recipes

/// `apus eval`: a suite on a checkpoint; and what its stages do with data and answers.
struct EvaluationCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "eval", abstract: "Evaluate checkpoints: questions, samples, figures with intervals.",
        discussion: "A suite (kind: suite) is run by: apus run SUITE --set variables.model=CHECKPOINT",
        subcommands: [Prepare.self, Count.self])

    struct Prepare: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Read an evaluation set in a public form, take a share of it, put it into a prompt.",
            discussion: "Forms: \(PublicFormat.allCases.map(\.rawValue).joined(separator: ", ")).")

        @Argument(help: "File or folder of a data set to read.")
        var source: String

        @Argument(help: "File to write.")
        var file: String

        @Option(help: "Form of the rows.")
        var format = "plain"

        @Option(help: "Prompt with {question} and other columns in braces.")
        var prompt: String?

        @Option(help: "Share of the rows, the same of each group.")
        var share = 1.0

        @Option(help: "Rows at most.")
        var limit: Int?

        @OptionGroup var choice: DataChoice

        @Option(help: "Column of the groups.")
        var by: String?

        @Option(help: "Decides which rows belong to the share.")
        var seed: UInt64 = 0

        @Flag(help: "One row per choice, for the log-probabilities of the choices.")
        var rankChoices = false

        func run() throws {
            guard let format = PublicFormat(rawValue: format), share > 0, share <= 1, limit ?? 1 > 0 else {
                complain("--format \(format) --share \(share): see apus eval prepare --help")
                throw ExitStatus.usage
            }
            try reporting(ExitStatus.badInput) {
                var data = EvaluationData()
                data.format = format
                data.prompt = prompt
                data.share = share
                data.limit = limit
                data.by = by
                data.seed = seed
                data.ranksChoices = rankChoices
                data.columns = try choice.columns()
                try data.prepare(choice.set(source), to: URL(fileURLWithPath: file))
            }
        }
    }

    struct Count: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Figures of a finished run: mean, pass@k, 95 % intervals, groups, rating; writes metrics.jsonl.")

        @Argument(help: ArgumentHelp("The run's directory.", valueName: "run"))
        var answers: String

        @Argument(help: "The rows that were asked.")
        var rows: String

        @Option(help: "Column of the groups.")
        var by: String?

        @Option(help: "A family of groups: NAME=GROUP,GROUP; may be repeated.")
        var family: [String] = []

        @Option(help: "Count what scored at least this as right.")
        var atLeast: Double?

        @Flag(help: "The run scored choices; the likeliest counts.")
        var ranked = false

        func run() throws {
            try reporting(ExitStatus.badInput) {
                let target = URL(fileURLWithPath: "metrics.jsonl")
                try RunDirectory.protect(target)
                var score = EvaluationScore()
                score.by = by
                score.threshold = atLeast
                for text in family {
                    let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
                    guard parts.count == 2 else { throw InputError("--family \(text): expected NAME=GROUP,GROUP") }
                    score.families[parts[0]] = parts[1].split(separator: ",").map(String.init)
                }
                let (directory, data) = (URL(fileURLWithPath: answers, isDirectory: true), URL(fileURLWithPath: rows))
                let figures: [String: Double]
                do {
                    figures =
                        ranked ? try score.ranked(directory, rows: data) : try score.generated(directory, rows: data)
                } catch let failure as EvaluationFailure {
                    complain(failure.description)
                    throw ExitStatus.jobFailed
                }
                if let failed = figures["failed"], failed > 0, let judged = figures["score_of_judged"] {
                    complain(
                        "\(Int(failed)) of \(Int(figures["samples"] ?? 0)) answers could not be judged and count as wrong; "
                            + "the score of the others is \(String(format: "%.4f", judged))")
                }
                for name in figures.keys.sorted() { print("\(name) \(String(format: "%.4f", figures[name]!))") }
                try EvaluationScore.write(figures, to: target)
            }
        }
    }
}
