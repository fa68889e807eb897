// SPDX-License-Identifier: Apache-2.0

extension JSONValue {
    /// Deepest nesting of lists and objects that is read.
    package static let depthMax = 256

    /// Reads one JSON document (RFC 8259) from UTF-8 bytes.
    ///
    /// - Parameter repeatedKeys: what becomes of a key that an object has twice.
    /// - Throws: ``JSONParseError`` for anything else: text after the document, invalid UTF-8, lone surrogate
    ///   escapes, NaN and infinities, nesting deeper than ``depthMax``.
    package init(parsing bytes: [UInt8], repeatedKeys: RepeatedKeys = .lastWins) throws(JSONParseError) {
        var parser = JSONParser(bytes: bytes, repeatedKeys: repeatedKeys)
        self = try parser.document()
    }

    /// Reads one JSON document from a string.
    package init(parsing text: String, repeatedKeys: RepeatedKeys = .lastWins) throws(JSONParseError) {
        try self.init(parsing: Array(text.utf8), repeatedKeys: repeatedKeys)
    }

    /// What becomes of a key that an object has twice.
    package enum RepeatedKeys: Sendable {
        /// The last value counts, as in Python: for files that Python's libraries wrote.
        case lastWins
        /// The document is refused: for data, where one of the two values would be lost.
        case refused
    }
}

/// Recursive-descent reader over bytes; every failure carries its offset.
struct JSONParser {
    private let bytes: [UInt8]
    private let repeatedKeys: JSONValue.RepeatedKeys
    private var position = 0

    init(bytes: [UInt8], repeatedKeys: JSONValue.RepeatedKeys) {
        self.bytes = bytes
        self.repeatedKeys = repeatedKeys
    }

    mutating func document() throws(JSONParseError) -> JSONValue {
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
        let value = try value(depth: 0)
        skipBlanks()
        guard position == bytes.count else { throw failure("unexpected text after the document") }
        return value
    }

    private func failure(_ message: String) -> JSONParseError {
        JSONParseError(message: message, byteOffset: position)
    }

    private mutating func skipBlanks() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    private mutating func value(depth: Int) throws(JSONParseError) -> JSONValue {
        guard depth <= JSONValue.depthMax else {
            throw failure("nested deeper than \(JSONValue.depthMax) levels")
        }
        skipBlanks()
        guard position < bytes.count else { throw failure("the text ends where a value should be") }
        switch bytes[position] {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "N"), UInt8(ascii: "I"): throw failure("NaN and Infinity are no JSON; write null")
        default: return try number()
        }
    }

    private mutating func word(_ text: StaticString, _ value: JSONValue) throws(JSONParseError) -> JSONValue {
        let end = position + text.utf8CodeUnitCount
        guard end <= bytes.count else { throw failure("expected \(text)") }
        for offset in 0..<text.utf8CodeUnitCount where bytes[position + offset] != text.utf8Start[offset] {
            throw failure("expected \(text)")
        }
        position = end
        return value
    }

    private mutating func array(depth: Int) throws(JSONParseError) -> JSONValue {
        position += 1
        var elements: [JSONValue] = []
        skipBlanks()
        if take(UInt8(ascii: "]")) { return .array([]) }
        while true {
            elements.append(try value(depth: depth + 1))
            skipBlanks()
            if take(UInt8(ascii: ",")) { continue }
            if take(UInt8(ascii: "]")) { return .array(elements) }
            throw failure("expected ',' or ']' in a list")
        }
    }

    private mutating func object(depth: Int) throws(JSONParseError) -> JSONValue {
        position += 1
        var members: [JSONObject.Member] = []
        skipBlanks()
        if take(UInt8(ascii: "}")) { return .object(JSONObject([])) }
        while true {
            skipBlanks()
            guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
                throw failure("expected a member name in double quotes")
            }
            let key = try string()
            skipBlanks()
            guard take(UInt8(ascii: ":")) else { throw failure("expected ':' after a member name") }
            members.append(JSONObject.Member(key: key, value: try value(depth: depth + 1)))
            skipBlanks()
            if take(UInt8(ascii: ",")) { continue }
            if take(UInt8(ascii: "}")) {
                let object = JSONObject(members)
                guard repeatedKeys == .lastWins || object.members.count == members.count else {
                    throw failure("an object has the key \(Self.repeated(members)) twice")
                }
                return .object(object)
            }
            throw failure("expected ',' or '}' in an object")
        }
    }

    private static func repeated(_ members: [JSONObject.Member]) -> String {
        var seen: Set<ExactText> = []
        return members.first { !seen.insert(ExactText($0.key)).inserted }.map { "'\($0.key)'" } ?? ""
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard position < bytes.count, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    private mutating func number() throws(JSONParseError) -> JSONValue {
        let start = position
        _ = take(UInt8(ascii: "-"))
        let integerStart = position
        try digits()
        guard bytes[integerStart] != UInt8(ascii: "0") || position == integerStart + 1 else {
            throw failure("a number may not start with 0")
        }
        var isInteger = true
        if take(UInt8(ascii: ".")) {
            isInteger = false
            try digits()
        }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            isInteger = false
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            try digits()
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isInteger { return .integer(text == "-0" ? "0" : text) }
        guard Double(text) != nil else { throw failure("'\(text)' is not a number") }
        return .decimal(text)
    }

    private mutating func digits() throws(JSONParseError) {
        let start = position
        while position < bytes.count, (0x30...0x39).contains(bytes[position]) { position += 1 }
        guard position > start else { throw failure("expected a value") }
    }

    private mutating func string() throws(JSONParseError) -> String {
        position += 1
        let start = position
        // Most strings have no escape and are taken as they stand.
        while position < bytes.count, bytes[position] != 0x22, bytes[position] != 0x5C,
            bytes[position] >= 0x20
        {
            position += 1
        }
        guard position < bytes.count else { throw failure("a string does not end") }
        if bytes[position] == 0x22 {
            let text = try decoded(bytes[start..<position])
            position += 1
            return text
        }
        var content = Array(bytes[start..<position])
        while position < bytes.count {
            let byte = bytes[position]
            if byte == 0x22 {
                let text = try decoded(content[...])
                position += 1
                return text
            }
            guard byte >= 0x20 else { throw failure("a control character inside a string must be escaped") }
            position += 1
            if byte == 0x5C {
                try escape(into: &content)
            } else {
                content.append(byte)
            }
        }
        throw failure("a string does not end")
    }

    private func decoded(_ content: ArraySlice<UInt8>) throws(JSONParseError) -> String {
        guard let text = String(validating: content, as: UTF8.self) else {
            throw failure("a string is not valid UTF-8")
        }
        return text
    }

    private mutating func escape(into content: inout [UInt8]) throws(JSONParseError) {
        guard position < bytes.count else { throw failure("a string does not end") }
        let byte = bytes[position]
        position += 1
        switch byte {
        case 0x22, 0x5C, 0x2F: content.append(byte)
        case UInt8(ascii: "b"): content.append(0x08)
        case UInt8(ascii: "f"): content.append(0x0C)
        case UInt8(ascii: "n"): content.append(0x0A)
        case UInt8(ascii: "r"): content.append(0x0D)
        case UInt8(ascii: "t"): content.append(0x09)
        case UInt8(ascii: "u"):
            var unit = try hexadecimal()
            if (0xD800..<0xDC00).contains(unit), position + 1 < bytes.count,
                bytes[position] == 0x5C, bytes[position + 1] == UInt8(ascii: "u")
            {
                position += 2
                let low = try hexadecimal()
                guard (0xDC00..<0xE000).contains(low) else { throw failure("a lone surrogate escape") }
                unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(unit) else { throw failure("a lone surrogate escape") }
            content.append(contentsOf: Array(String(scalar).utf8))
        default: throw failure("unknown escape in a string")
        }
    }

    private mutating func hexadecimal() throws(JSONParseError) -> UInt32 {
        guard position + 4 <= bytes.count else { throw failure("a string does not end") }
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let digit = hexadecimalDigit(bytes[position]) else {
                throw failure("expected four hexadecimal digits")
            }
            value = value << 4 | digit
            position += 1
        }
        return value
    }

    private func hexadecimalDigit(_ byte: UInt8) -> UInt32? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte) - 0x30
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(byte) - 0x57
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(byte) - 0x37
        default: nil
        }
    }
}
