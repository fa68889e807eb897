// SPDX-License-Identifier: Apache-2.0

/// Decodes ids one by one and gives text out as soon as it is complete: the bytes of an unfinished character
/// wait for the next token. The pieces joined, with ``finish()``, are exactly `decode` of all ids.
package struct StreamingDecoder: Sendable {
    private let tokenizer: Tokenizer
    private let skipSpecial: Bool
    /// An unfinished character: at most three bytes between calls.
    private var pending: [UInt8] = []

    /// - Parameter skipSpecial: see ``Tokenizer/decode(_:skipSpecial:)``.
    package init(_ tokenizer: Tokenizer, skipSpecial: Bool = false) {
        self.tokenizer = tokenizer
        self.skipSpecial = skipSpecial
    }

    /// Takes the next id.
    ///
    /// - Returns: the text that is complete now; often empty in the middle of a character.
    package mutating func append(_ id: Int32) -> String {
        tokenizer.appendBytes(of: id, skipSpecial: skipSpecial, to: &pending)
        let held = Self.unfinishedByteCount(pending)
        let text = String(decoding: pending.dropLast(held), as: UTF8.self)
        pending.removeFirst(pending.count - held)
        return text
    }

    /// Ends the text: bytes that still wait become U+FFFD. The decoder is then as new.
    package mutating func finish() -> String {
        defer { pending = [] }
        return String(decoding: pending, as: UTF8.self)
    }

    /// How many bytes at the end are the start of a character that more bytes can complete.
    private static func unfinishedByteCount(_ bytes: [UInt8]) -> Int {
        for length in 1...3 where length <= bytes.count {
            let first = bytes[bytes.count - length]
            if first & 0xC0 == 0x80 { continue }
            let size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1
            return length < size && isValidStart(bytes.suffix(length)) ? length : 0
        }
        return 0
    }

    /// Whether a lead byte and the continuation bytes after it can begin a character (Unicode 3.9, table
    /// 3-7).
    private static func isValidStart(_ bytes: ArraySlice<UInt8>) -> Bool {
        guard let first = bytes.first, (0xC2...0xF4).contains(first) else { return false }
        guard bytes.count > 1 else { return true }
        let second = bytes[bytes.startIndex + 1]
        switch first {
        case 0xE0: return second >= 0xA0
        case 0xED: return second < 0xA0
        case 0xF0: return second >= 0x90
        case 0xF4: return second < 0x90
        default: return true
        }
    }
}
