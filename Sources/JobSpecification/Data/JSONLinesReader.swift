// SPDX-License-Identifier: Apache-2.0
package import Foundation
package import RuntimeSupport

/// Reads a JSON lines file line by line in constant memory. A byte order mark at its start does not count.
package struct JSONLinesReader {
    /// One line with content.
    package enum Line: Equatable {
        case bytes(Data)
        /// Longer than the limit; its rest was read past.
        case tooLong
    }

    private let handle: FileHandle
    private let file: String
    private let lineByteCountMax: Int
    private var buffer = Data()
    private var atEnd = false
    /// Number of the line returned last, from 1; empty lines count.
    package private(set) var lineNumber = 0

    private static let chunkByteCount = 1 << 18

    /// - Throws: ``JobError`` `fileSystem`, and `malformedRow` for a file that is plainly something else.
    package init(_ url: URL, lineByteCountMax: Int) throws(JobError) {
        precondition(lineByteCountMax > 0, "line limit \(lineByteCountMax)")
        self.lineByteCountMax = lineByteCountMax
        file = url.path
        do { handle = try FileHandle(forReadingFrom: url) } catch {
            throw JobError(.fileSystem, "cannot be opened; is data.path right and readable?", file: url.path)
        }
        try fill()
        if buffer.starts(with: [0xEF, 0xBB, 0xBF]) { buffer.removeFirst(3) }
        if let problem = Self.foreignForm(buffer) { throw JobError(.malformedRow, problem, file: file) }
    }

    /// What a file that is no JSON lines is, and how to make it so; nil: it may be.
    private static func foreignForm(_ start: Data) -> String? {
        let forms: [(bytes: [UInt8], text: String)] = [
            ([0x1F, 0x8B], "is compressed by gzip; unpack it (gunzip)"),
            ([0x28, 0xB5, 0x2F, 0xFD], "is compressed by zstd; unpack it (unzstd)"),
            (Array("BZh".utf8), "is compressed by bzip2; unpack it (bunzip2)"),
            (Array("PK\u{3}\u{4}".utf8), "is a zip archive; unpack it"),
            (Array("PAR1".utf8), "is a Parquet file; write JSON lines (datasets: Dataset.to_json)"),
            (Array("ARROW1".utf8), "is an Arrow file; write JSON lines (datasets: Dataset.to_json)"),
            ([0xFF, 0xFE], "is UTF-16; write UTF-8"), ([0xFE, 0xFF], "is UTF-16; write UTF-8"),
        ]
        if let form = forms.first(where: { start.starts(with: $0.bytes) }) { return form.text }
        let text = start.drop { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D || $0 == 0x0A }
        if text.first == UInt8(ascii: "[") {
            return "is one JSON list; write one object per line (jq -c '.[]' FILE)"
        }
        let first = text.prefix { $0 != 0x0A }.filter { $0 != 0x20 && $0 != 0x09 && $0 != 0x0D }
        if first.elementsEqual([UInt8(ascii: "{")]) {
            return "has an object over several lines; write one object per line (jq -c . FILE)"
        }
        return nil
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
        let chunk: Data?
        do { chunk = try handle.read(upToCount: Self.chunkByteCount) } catch {
            throw JobError(.fileSystem, "cannot be read after line \(lineNumber)", file: file)
        }
        if let chunk, !chunk.isEmpty { buffer.append(chunk) } else { atEnd = true }
    }
}
