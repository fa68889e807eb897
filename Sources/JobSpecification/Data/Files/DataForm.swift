// SPDX-License-Identifier: Apache-2.0
internal import Foundation

/// What a file of data is, told by its first bytes and, where these leave it open, by its name.
enum DataForm: Equatable {
    /// One object a line.
    case jsonLines
    /// One list of objects, or objects over several lines.
    case jsonDocument
    /// Comma-separated values with a header, or with another separator (RFC 4180).
    case separated(UInt8)
    case parquet
    /// An Arrow file or stream, as `Dataset.save_to_disk` writes them.
    case arrow

    /// Suffixes by which a file in a folder is taken for data; each may be followed by `.gz`.
    static let suffixes = ["jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow"]

    /// The form's suffix of a file name, `.gz` aside; nil for none of ``suffixes``.
    static func suffix(of name: String) -> String? {
        var parts = name.lowercased().split(separator: ".", omittingEmptySubsequences: false)
        if parts.last == "gz" { parts.removeLast() }
        guard parts.count > 1, let last = parts.last else { return nil }
        return suffixes.contains(String(last)) ? String(last) : nil
    }

    /// - Parameters:
    ///   - start: the first bytes of the content, unpacked.
    ///   - name: of the file.
    /// - Throws: what a file is that is no data, and the remedy.
    init(_ start: Data, name: String) throws(RowProblem) {
        if start.starts(with: Array("PAR1".utf8)) {
            self = .parquet
            return
        }
        let suffix = Self.suffix(of: name)
        if start.starts(with: Array("ARROW1".utf8)) || suffix == "arrow" && start.starts(with: [255, 255, 255, 255]) {
            self = .arrow
            return
        }
        if let problem = Self.foreign(start) { throw RowProblem(problem) }
        switch suffix {
        case "parquet", "arrow":
            throw RowProblem(
                start.starts(with: Array("version https://git-lfs".utf8))
                    ? "is a pointer of Git LFS and not the data; fetch them (git lfs pull)"
                    : "is no \(suffix == "arrow" ? "Arrow" : "Parquet") file, whatever its name says; fetch it again")
        case "tsv": self = .separated(UInt8(ascii: "\t"))
        case "csv": self = .separated(Self.separator(start))
        default:
            if start.starts(with: Array("version https://git-lfs".utf8)) {
                throw RowProblem("is a pointer of Git LFS and not the data; fetch them (git lfs pull)")
            }
            self = Self.isDocument(start) ? .jsonDocument : .jsonLines
        }
    }

    /// What a file that holds no rows is, and how to make it so; nil: it may hold some.
    private static func foreign(_ start: Data) -> String? {
        let forms: [(bytes: [UInt8], text: String)] = [
            ([0x28, 0xB5, 0x2F, 0xFD], "is compressed by zstd; unpack it (unzstd)"),
            (Array("BZh".utf8), "is compressed by bzip2; unpack it (bunzip2)"),
            ([0xFD, 0x37, 0x7A, 0x58, 0x5A], "is compressed by xz; unpack it (unxz)"),
            (Array("PK\u{3}\u{4}".utf8), "is a zip archive; unpack it, or write a spreadsheet as CSV"),
            ([0xFF, 0xFE], "is UTF-16; write UTF-8"), ([0xFE, 0xFF], "is UTF-16; write UTF-8"),
            (Array("SQLite format 3".utf8), "is a database of SQLite; write JSON lines or CSV"),
        ]
        return forms.first { start.starts(with: $0.bytes) }?.text
    }

    /// Whether the text is a list, or its first line begins an object that it does not end.
    private static func isDocument(_ start: Data) -> Bool {
        let text = start.drop { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D || $0 == 0x0A }
        switch text.first {
        case UInt8(ascii: "["): return true
        case UInt8(ascii: "{"):
            guard let end = text.firstIndex(of: 0x0A) else { return false }
            var scanner = JSONExtent()
            for byte in text[..<end] where scanner.take(byte) == .ended { return false }
            // A text does not go over a line's end: such a line is broken by itself.
            return !scanner.isInText
        default: return false
        }
    }

    /// A comma, unless the header has none and has another common separator.
    private static func separator(_ start: Data) -> UInt8 {
        let header = start.prefix { $0 != 0x0A && $0 != 0x0D }
        guard !header.contains(UInt8(ascii: ",")) else { return UInt8(ascii: ",") }
        return [UInt8(ascii: "\t"), UInt8(ascii: ";")].first { header.contains($0) } ?? UInt8(ascii: ",")
    }
}

/// Where a JSON object or list ends, byte by byte; what is inside is not looked at.
struct JSONExtent {
    enum Position { case inside, ended }

    private var depth = 0
    private(set) var isInText = false
    private var isEscaped = false

    mutating func take(_ byte: UInt8) -> Position {
        if isInText {
            if isEscaped {
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\"") {
                isInText = false
            }
            return .inside
        }
        switch byte {
        case UInt8(ascii: "\""): isInText = true
        case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
            depth -= 1
            if depth <= 0 { return .ended }
        default: break
        }
        return .inside
    }
}
