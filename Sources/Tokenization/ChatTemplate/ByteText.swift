// SPDX-License-Identifier: Apache-2.0

/// Python's string methods that the templates use, on UTF-8 bytes.
extension Array where Element == UInt8 {
    /// Without line feeds at the start and/or the end (`lstrip("\n")`, `rstrip("\n")`, `strip("\n")`).
    func trimming(start: Bool = false, end: Bool = false) -> [UInt8] {
        var slice = self[...]
        if start { slice = slice.drop { $0 == 0x0A } }
        if end { while slice.last == 0x0A { slice.removeLast() } }
        return Array(slice)
    }

    /// Whether the bytes end with `text`.
    func ends(with text: String) -> Bool { suffix(text.utf8.count).elementsEqual(text.utf8) }

    /// Where `text` is found first.
    func firstRange(of text: String) -> Range<Int>? {
        let pattern = Array(text.utf8)
        guard count >= pattern.count else { return nil }
        return (0...(count - pattern.count)).lazy.map { $0..<($0 + pattern.count) }
            .first { self[$0].elementsEqual(pattern) }
    }

    /// Where `text` is found last.
    func lastRange(of text: String) -> Range<Int>? {
        let pattern = Array(text.utf8)
        guard count >= pattern.count else { return nil }
        return (0...(count - pattern.count)).reversed().lazy.map { $0..<($0 + pattern.count) }
            .first { self[$0].elementsEqual(pattern) }
    }
}
