// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Checkpoints
import Foundation
import JobSpecification
import Recipes

/// `apus data`: data sets that can be made on the spot, and the curation of others.
struct DataCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data", abstract: "Make data sets, and choose training data from queries and answers.",
        subcommands: [
            Convert.self, Arithmetic.self, Registers.self, Tasks.self, Split.self, FilterQueries.self,
            FilterAnswers.self,
            Review.self,
            SelectPairs.self, Fuse.self, Checklist.self, Join.self, Disjoint.self,
        ])

    struct Registers: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write register programs, the task of the tiny world, as JSON lines.",
            discussion:
                "One query in eight is kept for evaluation: files with --evaluation hold only those, others none.")

        @Argument(help: "File to write.")
        var file: String

        @Option(name: .customShort("n"), help: "Rows.")
        var count = 1024

        @Option(help: "Seed: the same seed gives the same rows.")
        var seed: UInt64 = 0

        @Option(
            help: "prompts: questions with answers, for rollouts; demonstrations: questions with thinking and answer.")
        var form = "prompts"

        @Option(help: "easy6, all8, or letters of abcmnpqrst.")
        var operations = "easy6"

        @Option(help: "Fewest steps of a program.")
        var stepsMin = 1

        @Option(help: "Most steps of a program.")
        var stepsMax = 8

        @Option(help: "What a question says of thinking: think, no_think, mixed or none.")
        var flag = "think"

        @Option(help: "Digits of the programs: \(RegisterPrograms.languages.keys.sorted().joined(separator: ", ")).")
        var language = "arabic-numerals"

        @Option(help: "Share of demonstrations whose thinking stops early.")
        var underThinking = 0.0

        @Flag(help: "Only queries that are kept for evaluation.")
        var evaluation = false

        func run() throws {
            guard let form = RegisterPrograms.Form(rawValue: form) else {
                complain("--form \(form): choose prompts or demonstrations")
                throw ExitStatus.usage
            }
            guard let flag = RegisterPrograms.Flag(rawValue: flag) else {
                complain("--flag \(flag): choose think, no_think, mixed or none")
                throw ExitStatus.usage
            }
            guard stepsMin >= 1, stepsMin <= stepsMax else {
                complain("--steps-min \(stepsMin) --steps-max \(stepsMax): choose 1 or more, in order")
                throw ExitStatus.usage
            }
            let letters =
                switch operations {
                case "easy6": RegisterPrograms.easy6
                case "all8": RegisterPrograms.all8
                default: Array(operations)
                }
            guard let digits = RegisterPrograms.languages[language] else {
                complain(
                    "--language \(language): choose \(RegisterPrograms.languages.keys.sorted().joined(separator: ", "))"
                )
                throw ExitStatus.usage
            }
            try reporting(ExitStatus.badInput) {
                var programs = try RegisterPrograms(
                    count: count, seed: seed, form: form, operations: letters, steps: stepsMin...stepsMax, flag: flag,
                    underThinking: underThinking, isForEvaluation: evaluation)
                programs.digits = digits
                try RunDirectory.protect(URL(fileURLWithPath: file))
                try programs.write(to: URL(fileURLWithPath: file))
            }
        }
    }

    struct Tasks: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write questions that a rule can judge, as JSON lines.",
            discussion: "One question in eight is kept for evaluation: files with --evaluation hold only those.\n\n"
                + TaskGenerators.types.map { "\($0.name): \($0.about)" }.joined(separator: "\n"))

        @Argument(help: "Kind of questions.")
        var task: String

        @Argument(help: "File to write.")
        var file: String

        @Option(name: .customShort("n"), help: "Rows.")
        var count = 256

        @Option(help: "Seed: the same seed gives the same rows.")
        var seed: UInt64 = 0

        @Option(help: "An option of the kind, key=value; may be repeated.")
        var option: [String] = []

        @Flag(help: "Only questions that are kept for evaluation.")
        var evaluation = false

        func run() throws {
            try reporting(ExitStatus.badInput) {
                try TaskGenerators.write(
                    task, TaskOptions(option), count: count, seed: seed, isForEvaluation: evaluation,
                    to: URL(fileURLWithPath: file))
            }
        }
    }

    struct Arithmetic: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write arithmetic questions with answers as JSON lines.")

        @Argument(help: "File to write.")
        var file: String

        @Option(name: .customShort("n"), help: "Questions.")
        var count = 64

        @Option(help: "Seed: the same seed gives the same questions.")
        var seed: UInt64 = 0

        @Option(help: "prompt: plain text without chat template; messages: a conversation for it.")
        var form = "messages"

        func run() throws {
            guard let form = ArithmeticPrompts.Form(rawValue: form) else {
                complain("--form \(form): choose prompt or messages")
                throw ExitStatus.usage
            }
            try reporting(ExitStatus.badInput) {
                try RunDirectory.protect(URL(fileURLWithPath: file))
                try ArithmeticPrompts(count: count, seed: seed, form: form).write(to: URL(fileURLWithPath: file))
            }
        }
    }
}
