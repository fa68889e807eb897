// SPDX-License-Identifier: Apache-2.0
//
// A pull reader over JSON bytes (RFC 8259). Foundation's reader hides what a checkpoint reader must see: doubled
// keys, whether a number was written as an integer, and where the text goes wrong. It takes and refuses what
// serde_json takes and refuses, since that is what the safetensors library reads headers with.

/// Reads one JSON text from front to back without building a tree.
struct JSONScanner {
    /// What is wrong and at which byte of the text.
    struct Failure: Error, Equatable {
        let offset: Int
        let message: String
    }

    /// How a number was written.
    enum Number: Equatable {
        case unsigned(UInt64)
        case negative(Int64)
        case real(Double)
    }

    /// As many levels of nesting as serde_json allows.
    static let depthMax = 127

    private let bytes: UnsafeRawBufferPointer
    private(set) var offset = 0

    /// `bytes` must be valid UTF-8 and outlive the scanner.
    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    func failure(_ message: String) -> Failure { Failure(offset: offset, message: message) }

    /// The next byte that is not blank, not consumed; nil at the end.
    mutating func peek() -> UInt8? {
        while offset < bytes.count {
            let byte = bytes[offset]
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return byte }
            offset += 1
        }
        return nil
    }

    /// Consumes `character` if it comes next.
    mutating func consume(_ character: Unicode.Scalar) -> Bool {
        guard peek() == UInt8(ascii: character) else { return false }
        offset += 1
        return true
    }

    mutating func expect(_ character: Unicode.Scalar) throws(Failure) {
        guard consume(character) else {
            throw failure(
                offset < bytes.count ? "expected '\(character)'" : "text ends, expected '\(character)'")
        }
    }

    mutating func expectEnd() throws(Failure) {
        if peek() != nil { throw failure("characters after the end of the value") }
    }

    /// Reads an object, calling `member` after each key and colon; it must consume the value.
    mutating func readObject(
        _ member: (inout JSONScanner, String) throws(Failure) -> Void
    ) throws(Failure) {
        try expect("{")
        if consume("}") { return }
        repeat {
            guard peek() == UInt8(ascii: "\"") else { throw failure("expected a key in quotes") }
            let key = try readString()
            try expect(":")
            try member(&self, key)
        } while consume(",")
        try expect("}")
    }

    /// Reads an array, calling `element` for each, which must consume it.
    mutating func readArray(_ element: (inout JSONScanner) throws(Failure) -> Void) throws(Failure) {
        try expect("[")
        if consume("]") { return }
        repeat { try element(&self) } while consume(",")
        try expect("]")
    }

    /// Consumes any value.
    mutating func skipValue(depth: Int = 0) throws(Failure) {
        guard depth < JSONScanner.depthMax else { throw failure("nested too deeply") }
        switch peek() {
        case UInt8(ascii: "{"):
            try readObject { (scanner, _) throws(Failure) in try scanner.skipValue(depth: depth + 1) }
        case UInt8(ascii: "["):
            try readArray { (scanner) throws(Failure) in try scanner.skipValue(depth: depth + 1) }
        case UInt8(ascii: "\""): _ = try readString()
        case UInt8(ascii: "t"): try readWord("true")
        case UInt8(ascii: "f"): try readWord("false")
        case UInt8(ascii: "n"): try readWord("null")
        default: _ = try readNumber()
        }
    }

    /// Consumes exactly `word`.
    mutating func readWord(_ word: StaticString) throws(Failure) {
        _ = peek()
        let count = word.utf8CodeUnitCount
        guard bytes.count - offset >= count else { throw failure("text ends, expected '\(word)'") }
        for index in 0..<count where bytes[offset + index] != word.utf8Start[index] {
            throw failure("expected '\(word)'")
        }
        offset += count
    }

    /// Reads a number. Integers outside 64 bits become reals, as in serde_json; `-0` is a real too.
    mutating func readNumber() throws(Failure) -> Number {
        _ = peek()
        let start = offset
        let isNegative = offset < bytes.count && bytes[offset] == UInt8(ascii: "-")
        if isNegative { offset += 1 }
        let leading = digit(at: offset)
        let integerDigits = skipDigits()
        guard integerDigits > 0 else {
            offset = start
            throw failure(start < bytes.count ? "expected a value" : "text ends, expected a value")
        }
        guard leading != 0 || integerDigits == 1 else { throw failure("number with a leading zero") }
        let isReal = try skipFractionAndExponent()
        let text = String(decoding: bytes[start..<offset], as: UTF8.self)
        if !isReal {
            if !isNegative, let value = UInt64(text) { return .unsigned(value) }
            if isNegative, let value = Int64(text), value != 0 { return .negative(value) }
        }
        guard let value = Double(text), value.isFinite else {
            offset = start
            throw failure("number out of range")
        }
        return .real(value)
    }

    private func digit(at position: Int) -> UInt8? {
        guard position < bytes.count else { return nil }
        let value = bytes[position] &- UInt8(ascii: "0")
        return value < 10 ? value : nil
    }

    private mutating func skipDigits() -> Int {
        let start = offset
        while digit(at: offset) != nil { offset += 1 }
        return offset - start
    }

    /// Returns whether there was a fraction or an exponent.
    private mutating func skipFractionAndExponent() throws(Failure) -> Bool {
        var isReal = false
        if offset < bytes.count, bytes[offset] == UInt8(ascii: ".") {
            isReal = true
            offset += 1
            guard skipDigits() > 0 else { throw failure("expected a digit after the point") }
        }
        if offset < bytes.count, bytes[offset] | 0x20 == UInt8(ascii: "e") {
            isReal = true
            offset += 1
            if offset < bytes.count, bytes[offset] == UInt8(ascii: "+") || bytes[offset] == UInt8(ascii: "-") {
                offset += 1
            }
            guard skipDigits() > 0 else { throw failure("expected a digit in the exponent") }
        }
        return isReal
    }

    /// Reads a string with its escapes resolved. Lone surrogates and raw control characters are refused.
    mutating func readString() throws(Failure) -> String {
        try expect("\"")
        let start = offset
        while offset < bytes.count, bytes[offset] != UInt8(ascii: "\""), bytes[offset] != UInt8(ascii: "\\"),
            bytes[offset] >= 0x20
        {
            offset += 1
        }
        var text = String(decoding: bytes[start..<offset], as: UTF8.self)
        while offset < bytes.count {
            let byte = bytes[offset]
            switch byte {
            case UInt8(ascii: "\""):
                offset += 1
                return text
            case UInt8(ascii: "\\"):
                offset += 1
                text.unicodeScalars.append(try readEscape())
            case 0..<0x20: throw failure("control character in a string")
            default:
                let from = offset
                while offset < bytes.count, bytes[offset] >= 0x20, bytes[offset] != UInt8(ascii: "\""),
                    bytes[offset] != UInt8(ascii: "\\")
                {
                    offset += 1
                }
                text += String(decoding: bytes[from..<offset], as: UTF8.self)
            }
        }
        throw failure("text ends inside a string")
    }

    private mutating func readEscape() throws(Failure) -> Unicode.Scalar {
        guard offset < bytes.count else { throw failure("text ends inside a string") }
        let byte = bytes[offset]
        offset += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{C}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let high = try readFourHexDigits()
            if let scalar = Unicode.Scalar(high) { return scalar }
            // Only surrogates are no scalars below 0x10000: a high one must be followed by an escaped low one.
            guard high < 0xDC00, offset + 1 < bytes.count, bytes[offset] == UInt8(ascii: "\\"),
                bytes[offset + 1] == UInt8(ascii: "u")
            else { throw failure("lone surrogate in a string") }
            offset += 2
            let low = try readFourHexDigits()
            guard (0xDC00..<0xE000).contains(low),
                let scalar = Unicode.Scalar(0x10000 + (high - 0xD800) << 10 + (low - 0xDC00))
            else { throw failure("lone surrogate in a string") }
            return scalar
        default: throw failure("unknown escape in a string")
        }
    }

    private mutating func readFourHexDigits() throws(Failure) -> UInt32 {
        guard bytes.count - offset >= 4 else { throw failure("text ends inside an escape") }
        var value: UInt32 = 0
        for _ in 0..<4 {
            let byte = bytes[offset]
            let nibble: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): nibble = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): nibble = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): nibble = byte - UInt8(ascii: "A") + 10
            default: throw failure("expected four hexadecimal digits")
            }
            value = value << 4 | UInt32(nibble)
            offset += 1
        }
        return value
    }
}
