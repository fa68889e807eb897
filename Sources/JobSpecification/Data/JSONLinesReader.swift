// SPDX-License-Identifier: Apache-2.0
package import Foundation
package import RuntimeSupport

/// Splits bytes into lines of JSON in constant memory.
package struct JSONLinesReader {
    /// One line with content.
    package enum Line: Equatable {
        case bytes(Data)
        /// Longer than the limit; its rest was read past.
        case tooLong
    }

    private let stream: any ByteStream
    private let lineByteCountMax: Int
    private var buffer = Data()
    private var atEnd = false
    /// Number of the line returned last, from 1; empty lines count.
    package private(set) var lineNumber = 0

    init(_ stream: any ByteStream, lineByteCountMax: Int) {
        precondition(lineByteCountMax > 0, "line limit \(lineByteCountMax)")
        self.stream = stream
        self.lineByteCountMax = lineByteCountMax
    }

    /// The object of a line. A key that occurs twice is refused: one of its values would be lost.
    package static func object(_ line: Data) throws(RowProblem) -> JSONObject {
        let value: JSONValue
        do throws(JSONParseError) { value = try JSONValue(parsing: [UInt8](line), repeatedKeys: .refused) } catch {
            throw RowProblem("is not JSON: \(error.message), at byte \(error.byteOffset)")
        }
        guard let row = value.objectValue else { throw RowProblem("is \(value.kind), not an object") }
        return row
    }

    /// The next line that is not blank, without its newline; nil at the end.
    package mutating func next() throws(JobError) -> Line? {
        while let line = try nextRaw() {
            if case .bytes(let data) = line, data.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) {
                continue
            }
            return line
        }
        return nil
    }

    private mutating func nextRaw() throws(JobError) -> Line? {
        var isTooLong = false
        var searched = 0
        while true {
            if let newline = buffer.dropFirst(searched).firstIndex(of: 0x0A) {
                let line = buffer[buffer.startIndex..<newline]
                isTooLong = isTooLong || line.count > lineByteCountMax
                let result = isTooLong ? Line.tooLong : .bytes(Data(line))
                buffer.removeSubrange(buffer.startIndex...newline)
                lineNumber += 1
                return result
            }
            searched = buffer.count
            if buffer.count > lineByteCountMax {
                isTooLong = true
                buffer.removeAll(keepingCapacity: true)
                searched = 0
            }
            if atEnd {
                if buffer.isEmpty && !isTooLong { return nil }
                let rest = buffer
                buffer = Data()
                lineNumber += 1
                return isTooLong ? .tooLong : .bytes(Data(rest))
            }
            try fill()
        }
    }

    private mutating func fill() throws(JobError) {
        if let chunk = try stream.read() { buffer.append(chunk) } else { atEnd = true }
    }
}

/// Rows of JSON lines.
final class JSONLinesSource: RowSource {
    private var lines: JSONLinesReader
    private let byteCountMax: Int
    /// False where the lines are made on the way, and a line is a row.
    let numbersLines: Bool

    init(_ stream: any ByteStream, byteCountMax: Int, numbersLines: Bool = true) {
        lines = JSONLinesReader(stream, lineByteCountMax: byteCountMax)
        self.byteCountMax = byteCountMax
        self.numbersLines = numbersLines
    }

    func next() throws(JobError) -> SourceRow? {
        guard let line = try lines.next() else { return nil }
        do throws(RowProblem) {
            guard case .bytes(let bytes) = line else { throw .tooLong(byteCountMax) }
            return SourceRow(content: .success(try JSONLinesReader.object(bytes)), number: lines.lineNumber)
        } catch { return SourceRow(content: .failure(error), number: lines.lineNumber) }
    }
}
