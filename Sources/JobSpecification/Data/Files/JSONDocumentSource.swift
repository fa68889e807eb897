// SPDX-License-Identifier: Apache-2.0
internal import Foundation
internal import RuntimeSupport

/// Rows of a JSON text that is no JSON lines: one list of objects, or objects that go over several lines. One row is in
/// memory at a time.
final class JSONDocumentSource: RowSource {
    private var cursor: ByteCursor
    private let file: String
    private let byteCountMax: Int
    private var rowNumber = 0
    /// nil before the first value: is it a list of rows, or rows one after the other?
    private var isList: Bool?
    private var separator = Separator.allowed
    private var hasEnded = false

    /// What may stand before the next row.
    private enum Separator { case allowed, required, seen }

    var numbersLines: Bool { false }

    init(_ stream: any ByteStream, file: String, byteCountMax: Int) {
        cursor = ByteCursor(stream)
        self.file = file
        self.byteCountMax = byteCountMax
    }

    func next() throws(JobError) -> SourceRow? {
        while let byte = try cursor.peek() {
            switch byte {
            case 0x20, 0x09, 0x0A, 0x0D: cursor.advance()
            case _ where hasEnded: throw failure("there is text after the end of the list")
            case UInt8(ascii: "["):
                guard isList == nil else { return try row() }
                isList = true
                cursor.advance()
            case UInt8(ascii: "]"):
                guard isList == true, separator != .seen else { throw failure("unexpected ']'") }
                hasEnded = true
                cursor.advance()
            case UInt8(ascii: ","):
                guard isList == true, separator == .required else { throw failure("unexpected ','") }
                separator = .seen
                cursor.advance()
            default:
                if isList == nil { isList = false }
                guard isList == false || separator != .required else {
                    throw failure("expected ',' or ']' after row \(rowNumber)")
                }
                return try row()
            }
        }
        guard isList != true || hasEnded else {
            throw failure("the list does not end: the file was cut off; fetch or write it again")
        }
        return nil
    }

    private func row() throws(JobError) -> SourceRow {
        rowNumber += 1
        separator = .required
        guard let first = try cursor.peek(), first == UInt8(ascii: "{") || first == UInt8(ascii: "[") else {
            // A word or number: to where the next value may begin.
            var text = Data()
            while let byte = try cursor.peek(), byte != UInt8(ascii: ","), byte != UInt8(ascii: "]"), byte != 0x0A {
                if text.count < 64 { text.append(byte) }
                cursor.advance()
            }
            let problem = RowProblem("'\(String(decoding: text, as: UTF8.self))' is no object")
            return SourceRow(content: .failure(problem), number: rowNumber)
        }
        let start = cursor.line
        var extent = JSONExtent()
        var (bytes, count) = (Data(), 0)
        while true {
            guard let byte = try cursor.peek() else {
                throw failure("the row that begins in line \(start) does not end; is the file whole?")
            }
            cursor.advance()
            count += 1
            if count <= byteCountMax { bytes.append(byte) }
            if extent.take(byte) == .ended { break }
        }
        guard count <= byteCountMax else {
            return SourceRow(content: .failure(.tooLong(byteCountMax)), number: rowNumber)
        }
        do throws(RowProblem) {
            return SourceRow(content: .success(try JSONLinesReader.object(bytes)), number: rowNumber)
        } catch { return SourceRow(content: .failure(error), number: rowNumber) }
    }

    private func failure(_ text: String) -> JobError {
        JobError(.malformedRow, "is not JSON: \(text)", line: cursor.line, file: file)
    }
}
