// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import JobSpecification
import Recipes

/// Which rows of a data set, by which names.
struct DataChoice: ParsableArguments {
    @Option(help: "Split of a data set's folder. Default: train, or the only one.")
    var split: String?

    @Option(help: "Configuration of a data set's folder. Default: the one that it says.")
    var name: String?

    @Option(help: "A name for a column of the file, NAME=COLUMN, such as prompt=question; may be repeated.")
    var column: [String] = []

    func set(_ path: String) -> DataSet { DataSet(path, split: split, name: name) }

    func columns() throws -> ColumnNames {
        ColumnNames(
            try column.map { text in
                let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
                guard parts.count == 2 else { throw InputError("--column \(text): expected NAME=COLUMN") }
                return (name: parts[0], source: parts[1])
            })
    }
}

extension DataCommand {
    struct Convert: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write rows of any form that is read as JSON lines.",
            discussion: """
                Reads JSON lines, a JSON list, CSV and TSV (also .gz), Parquet and Arrow (through pyarrow), and a folder of a \
                Hugging Face data set. Conversations of ShareGPT and instructions of Alpaca become messages.
                """)

        @Argument(help: "File or folder to read.") var source: String
        @Argument(help: "File to write.") var target: String
        @OptionGroup var choice: DataChoice
        @Option(help: "Rows at most.") var limit: Int?

        func validate() throws {
            guard limit ?? 1 > 0 else { throw ValidationError("--limit must be 1 or more") }
        }

        func run() throws {
            try reporting(ExitStatus.badInput) {
                let count = try Rows.convert(
                    choice.set(source), columns: try choice.columns(), limit: limit, to: URL(fileURLWithPath: target))
                print("\(target): \(count) rows")
            }
        }
    }
}
