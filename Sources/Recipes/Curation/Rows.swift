// SPDX-License-Identifier: Apache-2.0
internal import Checkpoints
internal import Crypto
package import Foundation
internal import JobSpecification
internal import RuntimeSupport

/// Rows of JSON lines with all their columns, whatever they are called.
package enum Rows {
    /// Bytes of the longest line.
    private static let lineByteCountMax = 16 << 20

    /// - Throws: ``CurationError`` with file and line.
    package static func read(_ url: URL) throws -> [Row] {
        var rows: [Row] = []
        do throws(JobError) {
            var lines = try JSONLinesReader(url, lineByteCountMax: lineByteCountMax)
            while let line = try lines.next() {
                do throws(RowProblem) {
                    guard case .bytes(let bytes) = line else {
                        throw RowProblem("is longer than \(lineByteCountMax >> 20) MiB")
                    }
                    let object = try JSONLinesReader.object(bytes)
                    _ = try RowColumns.writtenIdentifier(of: object)
                    rows.append(Row(object, lineNumber: lines.lineNumber))
                } catch {
                    throw JobError(.malformedRow, error.description, line: lines.lineNumber, file: url.path)
                }
            }
        } catch { throw CurationError(error.description) }
        return rows
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
    package static func query(_ row: Row) -> String {
        for name in RowColumns.prompts.flatMap({ $0 }) {
            switch row.object[name] {
            case .string(let text)? where !text.isEmpty: return text
            case .array(let messages)?:
                let last = messages.last { $0["role"]?.stringValue == "user" }
                if let text = last?["content"]?.stringValue { return text }
            default: continue
            }
        }
        return ""
    }

    /// The messages that the query begins with; nil where it is a text.
    package static func messages(_ row: Row) -> [Row]? {
        for name in RowColumns.prompts[0] {
            if let messages = row[name] as? [Row] { return messages }
        }
        return nil
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
