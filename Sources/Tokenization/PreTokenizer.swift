// SPDX-License-Identifier: Apache-2.0

/// Cuts text into pre-tokens exactly where the Qwen regular expression does, without a regex engine.
///
/// The expression (``pattern``) is an ordered choice, written out here by hand over UTF-8: contraction; one
/// optional other character and letters; one number; optional space, symbols and line breaks; white space up to
/// its last line break; white space before more text, but its last character; white space. Letters, numbers and
/// white space are disjoint, so each position decides its branch by at most two characters.
///
/// - Complexity: O(n); a run of white space is read at most three times.
enum PreTokenizer {
    /// The only split expression that is implemented: that of Qwen2, Qwen2.5 and Qwen3.
    static let pattern =
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"#
        + #"|\s*[\r\n]+|\s+(?!\S)|\s+"#

    /// The end of the pre-token that starts at `start`, both in bytes.
    ///
    /// - Parameters:
    ///   - bytes: valid UTF-8; its end counts as the end of the text.
    ///   - classes: ``UnicodeClasses/table``.
    static func end(
        from start: Int, in bytes: UnsafeBufferPointer<UInt8>, classes: UnsafeBufferPointer<UInt8>
    ) -> Int {
        let word = UnicodeClasses.letter
        let separators = UnicodeClasses.letter | UnicodeClasses.number | UnicodeClasses.whitespace
        let (first, length) = scalar(in: bytes, at: start)
        let firstClass = classes[first]
        let next = start + length
        if firstClass & word != 0 { return endOfRun(of: word, from: next, in: bytes, classes: classes) }
        if firstClass & UnicodeClasses.number != 0 { return next }
        if first == 0x27, let end = contractionEnd(from: next, in: bytes) { return end }
        let nextClass = next < bytes.count ? classes[scalar(in: bytes, at: next).value] : 0
        if firstClass & UnicodeClasses.lineBreak == 0, nextClass & word != 0 {
            return endOfRun(of: word, from: next, in: bytes, classes: classes)
        }
        let isSymbol = firstClass & separators == 0
        let startsWithSpace = first == 0x20 && next < bytes.count && nextClass & separators == 0
        if isSymbol || startsWithSpace {
            let end = endOfRun(ofNone: separators, from: next, in: bytes, classes: classes)
            return endOfRun(of: UnicodeClasses.lineBreak, from: end, in: bytes, classes: classes)
        }
        return whitespaceEnd(from: start, in: bytes, classes: classes)
    }

    @inline(__always)
    private static func endOfRun(
        of mask: UInt8, from start: Int, in bytes: UnsafeBufferPointer<UInt8>,
        classes: UnsafeBufferPointer<UInt8>
    ) -> Int {
        var index = start
        while index < bytes.count {
            let (value, length) = scalar(in: bytes, at: index)
            if classes[value] & mask == 0 { break }
            index += length
        }
        return index
    }

    @inline(__always)
    private static func endOfRun(
        ofNone mask: UInt8, from start: Int, in bytes: UnsafeBufferPointer<UInt8>,
        classes: UnsafeBufferPointer<UInt8>
    ) -> Int {
        var index = start
        while index < bytes.count {
            let (value, length) = scalar(in: bytes, at: index)
            if classes[value] & mask != 0 { break }
            index += length
        }
        return index
    }

    /// The end of `'s 't 're 've 'm 'll 'd` in any case, given the place after the apostrophe. The regex
    /// engine also folds U+017F (long s) to s.
    private static func contractionEnd(from start: Int, in bytes: UnsafeBufferPointer<UInt8>) -> Int? {
        guard start < bytes.count else { return nil }
        let second = start + 1 < bytes.count ? bytes[start + 1] : 0
        switch bytes[start] | 0x20 {
        case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return start + 1
        case UInt8(ascii: "r"), UInt8(ascii: "v"):
            return second | 0x20 == UInt8(ascii: "e") ? start + 2 : nil
        case UInt8(ascii: "l"): return second | 0x20 == UInt8(ascii: "l") ? start + 2 : nil
        default: return bytes[start] == 0xC5 && second == 0xBF ? start + 2 : nil
        }
    }

    private static func whitespaceEnd(
        from start: Int, in bytes: UnsafeBufferPointer<UInt8>, classes: UnsafeBufferPointer<UInt8>
    ) -> Int {
        var index = start
        var last = start
        var afterLineBreak = start
        while index < bytes.count {
            let (value, length) = scalar(in: bytes, at: index)
            let valueClass = classes[value]
            if valueClass & UnicodeClasses.whitespace == 0 { break }
            last = index
            index += length
            if valueClass & UnicodeClasses.lineBreak != 0 { afterLineBreak = index }
        }
        if afterLineBreak > start { return afterLineBreak }
        // White space before other text leaves its last character to what follows.
        return index < bytes.count && last > start ? last : index
    }
}
