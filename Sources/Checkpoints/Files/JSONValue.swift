// SPDX-License-Identifier: Apache-2.0
package import Foundation

/// A JSON value that keeps the order of keys and how numbers were written.
package indirect enum JSONValue: Equatable, Sendable {
    case null
    case bool(Bool)
    /// Written without point and exponent.
    case integer(Int)
    case real(Double)
    case string(String)
    case array([JSONValue])
    case object([Member])

    /// A key and its value.
    package struct Member: Equatable, Sendable {
        package let key: String
        package let value: JSONValue

        package init(_ key: String, _ value: JSONValue) {
            self.key = key
            self.value = value
        }
    }

    /// Reads a whole JSON file of at most `limit` bytes.
    /// - Throws: `malformedJSON` with the byte offset, `limitExceeded`, `fileSystem`.
    package static func read(_ url: URL, limit: Int) throws -> JSONValue {
        let file = try MappedFile(url)
        guard file.byteCount <= limit else {
            throw CheckpointError(
                .limitExceeded, "has \(file.byteCount) bytes, the limit for this kind of file is \(limit)",
                file: url.path)
        }
        return try file.withBytes { try parse($0, file: url.path) }
    }

    /// Reads JSON bytes. A doubled key is refused: readers disagree on which of the two counts.
    package static func parse(_ bytes: UnsafeRawBufferPointer, file: String) throws -> JSONValue {
        guard String(validating: bytes, as: UTF8.self) != nil else {
            throw CheckpointError(.malformedJSON, "is not UTF-8", file: file)
        }
        var scanner = JSONScanner(bytes)
        do throws(JSONScanner.Failure) {
            let value = try scanner.readValue(depth: 0)
            try scanner.expectEnd()
            return value
        } catch {
            throw CheckpointError(
                .malformedJSON, "bad JSON: \(error.message)", file: file, byteOffset: error.offset)
        }
    }

    /// The value of `key` of an object, or nil.
    package subscript(key: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.key == key }?.value
    }

    /// What kind of value this is, for messages.
    package var kind: String {
        switch self {
        case .null: "null"
        case .bool(let value): "\(value)"
        case .integer(let value): "the integer \(value)"
        case .real(let value): "the number \(value)"
        case .string(let value): "the string \"\(value)\""
        case .array: "an array"
        case .object: "an object"
        }
    }

    /// The text as Python's `json.dumps(sort_keys=sortsKeys, indent=indent)` writes it, without a newline at the end.
    package func prettyPrinted(indent: Int = 2, sortsKeys: Bool = true) -> String {
        var text = ""
        write(into: &text, indent: indent, sortsKeys, level: 0)
        return text
    }

    private func write(into text: inout String, indent: Int, _ sortsKeys: Bool, level: Int) {
        switch self {
        case .null: text += "null"
        case .bool(let value): text += value ? "true" : "false"
        case .integer(let value): text += String(value)
        case .real(let value):
            precondition(value.isFinite, "JSON has no \(value)")
            text += value.description
        case .string(let value): JSONValue.write(value, into: &text)
        case .array(let values):
            JSONValue.writeList(values.count, "[", "]", into: &text, indent, level) { index, text in
                values[index].write(into: &text, indent: indent, sortsKeys, level: level + 1)
            }
        case .object(let members):
            let sorted =
                sortsKeys ? members.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) } : members
            JSONValue.writeList(sorted.count, "{", "}", into: &text, indent, level) { index, text in
                JSONValue.write(sorted[index].key, into: &text)
                text += ": "
                sorted[index].value.write(into: &text, indent: indent, sortsKeys, level: level + 1)
            }
        }
    }

    private static func writeList(
        _ count: Int, _ opening: String, _ closing: String, into text: inout String, _ indent: Int,
        _ level: Int,
        _ element: (Int, inout String) -> Void
    ) {
        text += opening
        for index in 0..<count {
            text += (index == 0 ? "\n" : ",\n") + String(repeating: " ", count: indent * (level + 1))
            element(index, &text)
        }
        if count > 0 { text += "\n" + String(repeating: " ", count: indent * level) }
        text += closing
    }

    /// Appends `string` in quotes, escaping only what JSON requires.
    static func write(_ string: String, into text: inout String) {
        text += "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case "\u{8}": text += "\\b"
            case "\u{C}": text += "\\f"
            case "\0"..<" ":
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}

extension JSONScanner {
    /// Reads any value as a tree.
    mutating func readValue(depth: Int) throws(Failure) -> JSONValue {
        guard depth < JSONScanner.depthMax else { throw failure("nested too deeply") }
        switch peek() {
        case UInt8(ascii: "{"): return try readTree(depth: depth)
        case UInt8(ascii: "["):
            var values: [JSONValue] = []
            try readArray { (scanner) throws(Failure) in
                values.append(try scanner.readValue(depth: depth + 1))
            }
            return .array(values)
        case UInt8(ascii: "\""): return .string(try readString())
        case UInt8(ascii: "t"):
            try readWord("true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try readWord("false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try readWord("null")
            return .null
        default:
            switch try readNumber() {
            case .unsigned(let value): return Int(exactly: value).map { .integer($0) } ?? .real(Double(value))
            case .negative(let value): return .integer(Int(value))
            case .real(let value): return .real(value)
            }
        }
    }

    private mutating func readTree(depth: Int) throws(Failure) -> JSONValue {
        var members: [JSONValue.Member] = []
        var keys: Set<String> = []
        try readObject { (scanner, key) throws(Failure) in
            guard keys.insert(key).inserted else { throw scanner.failure("the key \"\(key)\" occurs twice") }
            members.append(JSONValue.Member(key, try scanner.readValue(depth: depth + 1)))
        }
        return .object(members)
    }
}
