// SPDX-License-Identifier: Apache-2.0
internal import RuntimeSupport

/// Where a row stands, for messages.
package struct RowPlace: Equatable, Sendable, CustomStringConvertible {
    package let file: String
    /// From 1.
    package let number: Int
    /// Whether `number` counts lines of a text, or rows.
    let isLine: Bool

    package var description: String { "\(file): \(isLine ? "line" : "row") \(number)" }

    /// An error about the row.
    package func error(_ message: String) -> JobError {
        isLine
            ? JobError(.malformedRow, message, line: number, file: file)
            : JobError(.malformedRow, "row \(number): \(message)", file: file)
    }
}

/// A row as its file has it.
struct SourceRow {
    let content: Result<JSONObject, RowProblem>
    /// Number of the row's line, or of the row where lines mean nothing; from 1.
    let number: Int
}

/// The rows of one file, in order.
protocol RowSource: AnyObject {
    /// Whether numbers count lines.
    var numbersLines: Bool { get }
    /// - Throws: ``JobError`` with the file where nothing more can be read of it.
    func next() throws(JobError) -> SourceRow?
}

extension RowProblem {
    /// A row beyond the limit.
    static func tooLong(_ byteCountMax: Int) -> RowProblem {
        RowProblem("longer than data.max_row_bytes (\(byteCountMax))")
    }
}
