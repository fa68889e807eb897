// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Recipes

extension DataCommand {
    struct Join: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Put several files into one, each row with a column that names its file.")

        @Argument(help: "File to write.") var target: String
        @Argument(help: "NAME=FILE each.") var sources: [String]
        @Option(help: "The column.") var column = "source"

        func run() throws {
            try reporting(ExitStatus.badInput) {
                let files = try sources.map { text -> (label: String, rows: [Rows.Row]) in
                    let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
                    guard parts.count == 2 else { throw InputError("\(text): expected NAME=FILE") }
                    return (parts[0], try Rows.read(URL(fileURLWithPath: parts[1])))
                }
                try Rows.write(Joining.join(files, column: column), to: URL(fileURLWithPath: target))
            }
        }
    }

    struct Disjoint: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Refuse data for training that share ids or queries with data for evaluation.")

        @Argument(help: "Files of training data.") var training: [String]
        @Option(help: "A file of evaluation data; may be repeated.") var evaluation: [String]

        func run() throws {
            try reporting(ExitStatus.badInput) {
                let held = try evaluation.flatMap { try Rows.read(URL(fileURLWithPath: $0)) }
                var problems: [String] = []
                for file in training {
                    let overlap = Joining.overlap(
                        training: try Rows.read(URL(fileURLWithPath: file)), evaluation: held)
                    if !overlap.isEmpty {
                        problems.append(
                            "\(file): \(overlap.ids) ids and \(overlap.queries) queries are also in the evaluation data, "
                                + "such as \(overlap.example ?? "")")
                    }
                }
                guard problems.isEmpty else { throw InputError(problems.joined(separator: "\n")) }
                print("no id and no query of \(held.count) is in the training data")
            }
        }
    }
}
