// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import JobSpecification

/// `apus data`: data sets that can be made on the spot.
struct DataCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data", abstract: "Make data sets.", subcommands: [Arithmetic.self])

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
                try ArithmeticPrompts(count: count, seed: seed, form: form).write(to: URL(fileURLWithPath: file))
            }
        }
    }
}
