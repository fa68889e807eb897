// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import Foundation
import Recipes

extension DataCommand {
    /// Where a command's rows and its report go.
    private static func write(_ curated: Curated, to file: String, rowsName: String = "rows") throws {
        let url = URL(fileURLWithPath: file)
        try RunDirectory.protect(url.deletingLastPathComponent().appendingPathComponent("metrics.jsonl"))
        try Rows.write(curated.rows, to: url)
        let name = url.deletingPathExtension().lastPathComponent + "-report"
        try curated.report.write(to: url.deletingLastPathComponent(), name: name)
        let reasons = curated.report.reasons.filter { $0.count > 0 }.map { "\($0.name) \($0.count)" }
        print(
            "\(file): \(curated.report.kept) of \(curated.report.seen) \(rowsName)"
                + (reasons.isEmpty ? "" : "; left out: " + reasons.joined(separator: ", ")) + " (\(name).md)")
    }

    private static func rows(_ file: String?) throws -> [Rows.Row] {
        try file.map { try Rows.read(URL(fileURLWithPath: $0)) } ?? []
    }

    /// - Parameter queue: a file that need not be there yet.
    private static func reviews(queue: String?, _ file: String? = nil) throws -> Reviews {
        let known = queue.flatMap { FileManager.default.fileExists(atPath: $0) ? $0 : nil }
        return try Reviews(rows(known) + rows(file))
    }

    private static func answers(_ run: String) throws -> [Answer] { try Answer.read(URL(fileURLWithPath: run)) }

    struct Split: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Hold a validation reserve back, by the queries' hashes: any later file splits alike.")

        @Argument(help: "Queries or demonstrations.") var file: String
        @Option(help: "File for the reserve.") var reserve: String
        @Option(help: "File for the rest.") var rest: String
        @Option(help: "Share of the reserve.") var share = 0.1

        func run() throws {
            try reporting(ExitStatus.badInput) {
                let (held, rest) = Curation.split(try DataCommand.rows(file), share: share)
                try Rows.write(held, to: URL(fileURLWithPath: reserve))
                try Rows.write(rest, to: URL(fileURLWithPath: self.rest))
                print("\(held.count) rows held back in \(reserve), \(rest.count) in \(self.rest)")
            }
        }
    }

    struct FilterQueries: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Leave out queries that cannot be verified, ask several things or for text, or need no thinking.",
            discussion: "Domains are taken from the column 'domain' or from the words, and balanced with --balance.")

        @Argument(help: "Queries.") var file: String
        @Argument(help: "File to write; a report lies beside it.") var target: String
        @Option(help: "The validation reserve: its queries are left out.") var reserve: String?
        @Option(help: "A rollout run without thinking: queries that it solved are left out.") var solvedBy: String?
        @Option(help: "Share of its answers that may be right.") var solvedShare = 0.0
        @Option(help: "A reviewed queue: its verdicts and corrected references count.") var reviewed: String?
        @Option(help: "Rows in all, no domain with more than its even share.") var balance: Int?

        func run() throws {
            try reporting(ExitStatus.badInput) {
                let reviews = try Reviews(DataCommand.rows(reviewed))
                let answers = try solvedBy.map { try DataCommand.answers($0) } ?? []
                let rates = PassRate.of(answers.filter { !reviews.isOutdated($0) })
                try DataCommand.write(
                    Curation.queries(
                        try DataCommand.rows(file), reserve: try DataCommand.rows(reserve), passRates: rates,
                        solvedShare: solvedShare, reviews: reviews, balancedCount: balance), to: target,
                    rowsName: "queries")
            }
        }
    }

    struct FilterAnswers: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Make demonstrations of a rollout run's answers: six filters, and a queue for queries never solved.",
            discussion: """
                Filters: \(ResponseFilter.allCases.map { "\($0.rawValue) (\($0.standardThreshold))" }.joined(separator: ", ")). \
                A score above the threshold leaves the answer out.
                """)

        @Argument(help: ArgumentHelp("A finished rollout run.", valueName: "run")) var rollouts: String
        @Argument(help: "File to write; a report lies beside it.") var target: String
        @Option(help: "The queries that were answered.") var queries: String
        @Option(help: "The validation reserve.") var reserve: String?
        @Option(help: "Answers that stay per query.") var perQuery = 1
        @Option(name: .customLong("threshold"), help: "Of a filter: --threshold repetition=0.3") var thresholds:
            [String] = []
        @Flag(help: "Answers to queries that none solved may stay, for a student that learns from its teacher's texts.")
        var keepUnsolved = false
        @Option(
            help:
                "File for queries that no answer solved; 'apus data review' goes through it. Verdicts that it holds count and stay."
        )
        var review: String?
        @Option(help: "Another reviewed queue: its verdicts and corrected references count.") var reviewed: String?

        func run() throws {
            var chosen: [ResponseFilter: Double] = [:]
            for text in thresholds {
                let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
                guard parts.count == 2, let filter = ResponseFilter(rawValue: parts[0]), let value = Double(parts[1])
                else {
                    complain(
                        "--threshold \(text): write FILTER=NUMBER, with one of "
                            + ResponseFilter.allCases.map(\.rawValue).joined(separator: ", "))
                    throw ExitStatus.usage
                }
                chosen[filter] = value
            }
            try reporting(ExitStatus.badInput) {
                let reviews = try DataCommand.reviews(queue: review, reviewed)
                let result = Curation.answers(
                    try DataCommand.answers(rollouts), queries: try DataCommand.rows(queries),
                    reserve: try DataCommand.rows(reserve), thresholds: chosen, perQuery: perQuery,
                    reviews: reviews, keepsUnsolved: keepUnsolved)
                try DataCommand.write(result.demonstrations, to: target, rowsName: "answers")
                if let review {
                    let known = try DataCommand.reviews(queue: review).rows
                    try Rows.write(known + result.review, to: URL(fileURLWithPath: review))
                    print("\(review): \(result.review.count) queries to review, \(known.count) reviewed before")
                }
            }
        }
    }

    struct SelectPairs: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Choose queries for RL by measured pass rates: unused, learnable, challenging, of all domains.")

        @Argument(help: "Queries.") var file: String
        @Argument(help: "File to write; a report lies beside it.") var target: String
        @Option(help: "A rollout run of the model that RL starts from.") var measured: String
        @Option(help: "Demonstrations of the cold start: their queries are left out.") var used: String?
        @Option(help: "A reviewed queue: its verdicts and corrected references count.") var reviewed: String?
        @Option(help: "Pass rate above which a query is not challenging.") var most = 0.9
        @Option(help: "Queries to choose; default: all that qualify.") var count: Int?

        func run() throws {
            try reporting(ExitStatus.badInput) {
                let used = try DataCommand.rows(used).enumerated().flatMap { index, row in
                    let id = Rows.id(row, index)
                    return [id, id.split(separator: "/").dropLast().joined(separator: "/")]
                }
                let reviews = try Reviews(DataCommand.rows(reviewed))
                let answers = try DataCommand.answers(measured).filter { !reviews.isOutdated($0) }
                try DataCommand.write(
                    Curation.pairs(
                        try DataCommand.rows(file), passRates: PassRate.of(answers), usedIDs: Set(used),
                        reviews: reviews, most: most, count: count), to: target, rowsName: "pairs")
            }
        }
    }

    struct Fuse: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Mix thinking and non-thinking demonstrations, with flags, for thinking-mode fusion.")

        @Argument(help: "Files of demonstrations; those with reasoning_content are thinking ones.") var files: [String]
        @Option(name: .customShort("o"), help: "File to write.") var target: String
        @Option(help: "Share of thinking samples without a flag.") var unflagged = 0.3
        @Option(help: "Share of flags in a system message.") var system = 0.1
        @Option(
            name: .customLong("task-share"),
            help:
                "Share of a task among the answers without thinking, by the column 'task': --task-share translation=0.2"
        )
        var taskShares: [String] = []
        @Option(help: "Dialogues of two to four turns, in which the last flag wins.") var dialogues = 0
        @Flag(help: "Write the dialogues alone.") var onlyDialogues = false
        @Option(help: "demonstrations, or prompts: without the last answer, which becomes the reference.")
        var form = "demonstrations"

        func validate() throws {
            guard ["demonstrations", "prompts"].contains(form) else {
                throw ValidationError("--form \(form): choose demonstrations or prompts")
            }
        }

        func run() throws {
            try reporting(ExitStatus.badInput) {
                var fusion = ModeFusion()
                fusion.unflaggedShare = unflagged
                fusion.systemShare = system
                fusion.dialogueCount = dialogues
                for text in taskShares {
                    let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
                    guard parts.count == 2, let share = Double(parts[1]) else {
                        throw InputError("--task-share \(text): expected TASK=SHARE")
                    }
                    fusion.taskShares[parts[0]] = share
                }
                var rows = try fusion.fuse(files.flatMap { try DataCommand.rows($0) })
                if onlyDialogues { rows = Array(rows.suffix(dialogues)) }
                if form == "prompts" { rows = ModeFusion.prompts(rows) }
                try Rows.write(rows, to: URL(fileURLWithPath: target))
                print("\(target): \(rows.count) \(form)")
            }
        }
    }

    struct Checklist: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Generated checklists: their prompts, their grading, and the answers that fulfil enough of them.",
            discussion: """
                ask makes prompts for a rollout job whose answers are the checklists; grade makes prompts for a second one, \
                which answers them; keep leaves out what fulfils too few items, or was not graded.
                """, subcommands: [Ask.self, Grade.self, Keep.self])

        struct Ask: ParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Prompts that ask for a checklist of each query.")
            @Argument(help: "Queries.") var file: String
            @Argument(help: "File to write.") var target: String
            @Option(help: "Items of a checklist at most.") var items = 6

            func run() throws {
                try reporting(ExitStatus.badInput) {
                    let rows = Checklists.questions(try DataCommand.rows(file), items: items)
                    try Rows.write(rows, to: URL(fileURLWithPath: target))
                    print("\(target): \(rows.count) prompts")
                }
            }
        }

        struct Grade: ParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Prompts that ask whether each answer fulfils its query's checklist.")
            @Argument(help: "Demonstrations.") var file: String
            @Argument(help: "File to write.") var target: String
            @Option(help: "The rollout run whose answers are the checklists.") var checklists: String

            func run() throws {
                try reporting(ExitStatus.badInput) {
                    try DataCommand.write(
                        Checklists.gradings(
                            try DataCommand.rows(file), checklists: try DataCommand.answers(checklists)), to: target)
                }
            }
        }

        struct Keep: ParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Demonstrations that fulfil enough of their items.")
            @Argument(help: "Demonstrations.") var file: String
            @Argument(help: "File to write; a report lies beside it.") var target: String
            @Option(help: "The prompts that were graded.") var prompts: String
            @Option(help: "The rollout run that graded them.") var graded: String
            @Option(help: "Share of the items that must be fulfilled.") var least = 0.8

            func run() throws {
                try reporting(ExitStatus.badInput) {
                    var checklists = Checklists()
                    checklists.least = least
                    try DataCommand.write(
                        checklists.kept(
                            try DataCommand.rows(file), prompts: try DataCommand.rows(prompts),
                            graded: try DataCommand.answers(graded)), to: target)
                }
            }
        }
    }

    struct Review: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Go through queries that were never solved: is the reference wrong, or is the query just hard?",
            discussion: "Verdicts are added to the file at once; what has one is not asked again.")

        @Argument(help: "The queue, from 'apus data filter-answers --review'.") var file: String

        func run() throws {
            try reporting(ExitStatus.badInput) {
                let url = URL(fileURLWithPath: file)
                var rows = try Rows.read(url)
                for index in rows.indices where rows[index]["verdict"] == nil {
                    print("\n[\(index + 1) of \(rows.count)] \(Rows.query(rows[index]))")
                    print("reference: \(Rows.reference(rows[index]) ?? "-")")
                    for answer in rows[index]["answers"] as? [String] ?? [] { print("answer:    \(answer)") }
                    print(
                        "h: hard, keep   w: the reference is wrong   r TEXT: the right reference   s: skip   q: quit > ",
                        terminator: "")
                    StandardOutput.flush()
                    guard let line = readLine(), line != "q" else { break }
                    switch line.first {
                    case "h": rows[index]["verdict"] = Reviews.Verdict.hard.rawValue
                    case "w": rows[index]["verdict"] = Reviews.Verdict.wrongReference.rawValue
                    case "r" where line.count > 2:
                        rows[index]["verdict"] = Reviews.Verdict.corrected.rawValue
                        rows[index]["answer"] = String(line.dropFirst(2))
                    default: continue
                    }
                    try Rows.write(rows, to: url)
                }
                let open = rows.count { $0["verdict"] == nil }
                print("\(rows.count - open) of \(rows.count) reviewed")
            }
        }
    }
}
