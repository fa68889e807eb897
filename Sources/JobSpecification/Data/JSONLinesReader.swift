// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// Reads a JSON lines file line by line in constant memory.
struct JSONLinesReader {
    /// One line with content.
    enum Line: Equatable {
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
    private(set) var lineNumber = 0

    private static let chunkByteCount = 1 << 18

    init(_ url: URL, lineByteCountMax: Int) throws(JobError) {
        precondition(lineByteCountMax > 0, "line limit \(lineByteCountMax)")
        self.lineByteCountMax = lineByteCountMax
        file = url.path
        do { handle = try FileHandle(forReadingFrom: url) } catch {
            throw JobError(.fileSystem, "cannot be opened; is data.path right and readable?", file: url.path)
        }
    }

    /// The next line that is not blank, without its newline; nil at the end.
    mutating func next() throws(JobError) -> Line? {
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
