// SPDX-License-Identifier: Apache-2.0

/// Reads the fields of a GGUF file one after the other; every length is checked against what is left of the file before
/// anything is done with it.
struct GGUFCursor {
    let bytes: UnsafeRawBufferPointer
    /// For messages.
    let file: String
    private(set) var offset = 0

    init(_ bytes: UnsafeRawBufferPointer, file: String) {
        self.bytes = bytes
        self.file = file
    }

    var remaining: Int { bytes.count - offset }

    func failure(_ message: String, at place: Int? = nil, remedy: String = GGUFCursor.damaged) -> CheckpointError {
        CheckpointError(.malformedFile, message, file: file, byteOffset: place ?? offset, remedy: remedy)
    }

    static let damaged = "the file is damaged: fetch or write it again"

    mutating func number<T: FixedWidthInteger>(_ type: T.Type, _ what: String) throws -> T {
        let size = MemoryLayout<T>.size
        guard remaining >= size else { throw ended(what) }
        defer { offset += size }
        return T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }

    /// A length or a count, of which each unit takes `unitByteCount` bytes of the file at least.
    mutating func count(_ what: String, unitByteCount: Int) throws -> Int {
        let start = offset
        let value = try number(UInt64.self, what)
        guard value <= UInt64(remaining / unitByteCount) else {
            throw failure("\(what) is \(value), more than the rest of the file can hold", at: start)
        }
        return Int(value)
    }

    /// Where a string's bytes are.
    mutating func string(_ what: String, byteCountMax: Int = .max) throws -> Range<Int> {
        let start = offset
        let count = try count("the length of \(what)", unitByteCount: 1)
        guard count <= byteCountMax else {
            throw failure("\(what) has \(count) bytes, at most \(byteCountMax) are read", at: start)
        }
        defer { offset += count }
        return offset..<offset + count
    }

    mutating func skip(_ count: Int, _ what: String) throws {
        guard remaining >= count else { throw ended(what) }
        offset += count
    }

    private func ended(_ what: String) -> CheckpointError {
        failure("the file ends within \(what)", at: bytes.count, remedy: "the file is truncated: fetch it again")
    }

    /// The text of `range`.
    func text(_ range: Range<Int>, _ what: String) throws -> String {
        guard let text = String(validating: UnsafeRawBufferPointer(rebasing: bytes[range]), as: UTF8.self) else {
            throw failure("\(what) is not UTF-8", at: range.lowerBound)
        }
        return text
    }
}
