// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import Crypto
package import Foundation
internal import Glibc
package import JobSpecification
internal import RuntimeSupport

/// Rows of data with all their columns, whatever they are called.
package enum Rows {
    /// Bytes of the longest row.
    private static let rowByteCountMax = 16 << 20

    /// The rows of a file or of a data set's folder, in any form that jobs read.
    /// - Throws: ``CurationError`` with file and line.
    package static func read(_ url: URL) throws -> [Row] { try read(DataSet(url.path)) }

    /// - Throws: ``CurationError`` with file and line.
    package static func read(_ data: DataSet) throws -> [Row] {
        var rows: [Row] = []
        do throws(JobError) {
            var reader = try RowReader(data, byteCountMax: rowByteCountMax)
            while let row = try reader.next() {
                do throws(RowProblem) {
                    let object = try row.content.get()
                    _ = try RowColumns.writtenIdentifier(of: object)
                    rows.append(Row(object, lineNumber: row.number))
                } catch { throw row.place.error(error.description) }
            }
        } catch { throw CurationError(error.description) }
        return rows
    }

    /// Writes rows of any form as JSON lines, one after the other; conversations get the names that jobs and templates use.
    /// - Returns: the number of rows.
    /// - Throws: ``CurationError`` with file and line.
    package static func convert(
        _ data: DataSet, columns: ColumnNames = ColumnNames(), limit: Int? = nil, to url: URL
    ) throws -> Int {
        try RunDirectory.protect(url)
        let part = url.appendingPathExtension("partial")
        guard FileManager.default.createFile(atPath: part.path, contents: nil),
            let file = try? FileHandle(forWritingTo: part)
        else { throw CurationError("\(part.path): cannot be written; is its folder there and writable?") }
        defer {
            try? file.close()
            try? FileManager.default.removeItem(at: part)
        }
        var count = 0
        var lines = ""
        do {
            var reader = try RowReader(data, byteCountMax: rowByteCountMax)
            while count < limit ?? .max, let row = try reader.next() {
                do throws(RowProblem) {
                    let object = try RowColumns.normalized(columns.renamed(row.content.get()))
                    lines += JSONValue.object(object).compactText + "\n"
                } catch { throw row.place.error(error.description) }
                count += 1
                if lines.utf8.count > 1 << 20 {
                    try file.write(contentsOf: Data(lines.utf8))
                    lines = ""
                }
            }
        } catch let error as JobError { throw CurationError(error.description) }
        try file.write(contentsOf: Data(lines.utf8))
        try file.synchronize()
        guard rename(part.path, url.path) == 0 else { throw CurationError("\(url.path): cannot be written") }
        return count
    }

    /// Writes rows, their columns in order; the file appears whole.
    ///
    /// A row that was read without an id is written with the one that it had there: elsewhere its line has another number.
    package static func write(_ rows: [Row], to url: URL) throws {
        let identifiers = rows.enumerated().map { id($1, $0) }
        let isNamed = Set(identifiers).count == rows.count
        let lines = zip(rows, identifiers).map { row, id in
            var row = row
            if isNamed, row.lineNumber != nil, writtenID(row) == nil { row["id"] = id }
            return row.text + "\n"
        }
        try RunDirectory.protect(url)
        try DurableFile.write(lines.joined(), to: url)
    }

    /// The row's id as jobs name it: what its `id` says, or `row-N` with the number of its line.
    package static func id(_ row: Row, _ index: Int) -> String {
        writtenID(row) ?? "row-\(row.lineNumber ?? index + 1)"
    }

    /// The id that the row itself writes.
    package static func writtenID(_ row: Row) -> String? { try? RowColumns.writtenIdentifier(of: row.object) }

    /// The query: the last user turn, or the text of the prompt.
    package static func query(_ row: Row) -> String { RowColumns.query(of: row.object) }

    /// The messages that the query begins with; nil where it is a text.
    package static func messages(_ row: Row) -> [Row]? {
        RowColumns.messages(of: row.object).map { $0.map { Row($0) } }
    }

    package static func reference(_ row: Row) -> String? {
        guard let text = try? RowColumns.answer(of: row.object)?.text, !text.isEmpty else { return nil }
        return text
    }

    /// A number in [0, 1) that depends on `text` and `salt` alone: for splits that any later file agrees with.
    package static func draw(_ text: String, salt: String) -> Double {
        var value: UInt64 = 0
        for byte in SHA256.hash(data: Data("\(salt)\u{0}\(text)".utf8)).prefix(8) { value = value << 8 | UInt64(byte) }
        return Double(value >> 11) / Double(1 << 53)
    }
}
