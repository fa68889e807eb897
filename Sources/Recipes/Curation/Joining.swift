// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// Several files as one, and whether files have nothing in common.
package enum Joining {
    /// Rows of all files in order; `column` tells which file a row is from, and so does its id.
    package static func join(_ files: [(label: String, rows: [Rows.Row])], column: String) -> [Rows.Row] {
        files.flatMap { label, rows in
            rows.enumerated().map { index, row in
                row.merging([column: label, "id": "\(label)/\(Rows.id(row, index))"])
            }
        }
    }

    /// What training and evaluation have in common.
    package struct Overlap: Equatable, Sendable {
        package let ids: Int
        package let queries: Int
        /// One of them, for the message.
        package let example: String?

        package var isEmpty: Bool { ids == 0 && queries == 0 }
    }

    /// Rows of `training` whose id or query (without regard to case, white space and thinking flags) is one of `evaluation`.
    package static func overlap(training: [Rows.Row], evaluation: [Rows.Row]) -> Overlap {
        // An id that a file does not write is a number of a line, and no name.
        let ids = Set(evaluation.compactMap(Rows.writtenID))
        let queries = Set(evaluation.map { plain(Rows.query($0)) }).subtracting([""])
        var (sameID, sameQuery) = (0, 0)
        var example: String?
        for row in training {
            let hasID = Rows.writtenID(row).map(ids.contains) ?? false
            let hasQuery = queries.contains(plain(Rows.query(row)))
            if hasID { sameID += 1 }
            if hasQuery { sameQuery += 1 }
            if hasID || hasQuery, example == nil { example = Rows.writtenID(row) ?? Rows.query(row) }
        }
        return Overlap(ids: sameID, queries: sameQuery, example: example)
    }

    private static func plain(_ text: String) -> String {
        text.lowercased().split(whereSeparator: \.isWhitespace).filter { $0 != "/think" && $0 != "/no_think" }
            .joined(separator: " ")
    }
}
