// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import RuntimeSupport

/// Rows of comma-separated values (RFC 4180; other separators alike): the first record names the columns. Every value is a
/// text exactly as it is written; an empty one without quotes is none.
final class SeparatedValuesSource: RowSource {
    private var cursor: ByteCursor
    private let file: String
    private let separator: UInt8
    private let byteCountMax: Int
    private var header: [String]?

    var numbersLines: Bool { true }

    init(_ stream: any ByteStream, file: String, separator: UInt8, byteCountMax: Int) {
        cursor = ByteCursor(stream)
        self.file = file
        self.separator = separator
        self.byteCountMax = byteCountMax
    }

    /// One value; nil: empty and without quotes.
    private typealias Field = [UInt8]?

    private struct Record {
        var fields: [Field] = []
        let line: Int
        var problem: RowProblem?
        /// A line with nothing in it.
        var isBlank: Bool { problem == nil && fields.count == 1 && fields[0] == nil }
    }

    func next() throws(JobError) -> SourceRow? {
        if header == nil {
            guard let record = try nextRecord() else { return nil }
            header = try Self.header(record, file: file)
        }
        guard let header, let record = try nextRecord() else { return nil }
        return SourceRow(content: Self.row(record, header), number: record.line)
    }

    private static func header(_ record: Record, file: String) throws(JobError) -> [String] {
        func failure(_ text: String) -> JobError {
            JobError(.malformedRow, "the header: \(text)", line: record.line, file: file)
        }
        if let problem = record.problem { throw failure(problem.message) }
        var names: [String] = []
        for field in record.fields {
            guard let name = String(validating: field ?? [], as: UTF8.self) else { throw failure("is not UTF-8") }
            // A column without a name is an index that pandas wrote.
            guard name.isEmpty || !names.contains(name) else { throw failure("the column '\(name)' occurs twice") }
            names.append(name)
        }
        guard names.contains(where: { !$0.isEmpty }) else { throw failure("names no column") }
        return names
    }

    private static func row(_ record: Record, _ header: [String]) -> Result<JSONObject, RowProblem> {
        if let problem = record.problem { return .failure(problem) }
        guard record.fields.count == header.count else {
            return .failure(
                RowProblem(
                    "has \(record.fields.count) values, the header \(header.count); a value with a separator, a quote or a "
                        + "line end in it stands in double quotes"))
        }
        var members: [JSONObject.Member] = []
        for (name, field) in zip(header, record.fields) where !name.isEmpty {
            guard let field else {
                members.append(.init(key: name, value: .null))
                continue
            }
            guard let text = String(validating: field, as: UTF8.self) else {
                return .failure(RowProblem("'\(name)' is not UTF-8; write the file as UTF-8"))
            }
            members.append(.init(key: name, value: .string(text)))
        }
        return .success(JSONObject(members))
    }

    /// The next record that is not blank.
    private func nextRecord() throws(JobError) -> Record? {
        while let record = try rawRecord() { if !record.isBlank { return record } }
        return nil
    }

    private enum State { case start, plain, quoted, quoteInQuoted }

    private func rawRecord() throws(JobError) -> Record? {
        guard try cursor.peek() != nil else { return nil }
        var record = Record(line: cursor.line)
        var (field, state, count): ([UInt8], State, Int) = ([], .start, 0)
        func end() {
            record.fields.append(state == .start ? nil : field)
            field = []
            state = .start
        }
        while let byte = try cursor.peek() {
            cursor.advance()
            count += 1
            if count > byteCountMax {
                record.problem = .tooLong(byteCountMax)
                field = []
                record.fields = []
            }
            switch (state, byte) {
            case (.quoted, UInt8(ascii: "\"")): state = .quoteInQuoted
            case (.quoted, _): if record.problem == nil { field.append(byte) }
            case (.quoteInQuoted, UInt8(ascii: "\"")):
                field.append(byte)
                state = .quoted
            case (_, separator): end()
            case (_, 0x0A):
                end()
                return record
            case (_, 0x0D):
                let next = try cursor.peek()
                if next == 0x0A || next == nil { continue }
                // A lone carriage return is a character of the value.
                if state == .start { state = .plain }
                field.append(byte)
            case (.start, UInt8(ascii: "\"")): state = .quoted
            case (.quoteInQuoted, _):
                record.problem =
                    record.problem ?? RowProblem("has text after a closing quote; a quote in a value is written twice")
                state = .plain
            default:
                state = .plain
                if record.problem == nil { field.append(byte) }
            }
        }
        guard state != .quoted else {
            throw JobError(
                .malformedRow, "a value that begins with a quote does not end", line: record.line, file: file)
        }
        end()
        return record
    }
}
