// SPDX-License-Identifier: Apache-2.0

/// Cuts text into pre-tokens: each step cuts the pieces of the one before.
struct PreTokenizer: Sendable, Equatable {
    enum Step: Sendable, Equatable {
        case digits(individual: Bool)
        case split(SplitExpression)
    }

    /// None: a text is one pre-token.
    var steps: [Step] = []

    /// The end of the piece that starts at `start`, both in bytes.
    ///
    /// - Parameters:
    ///   - bytes: valid UTF-8, a piece of the step before; its end counts as the end of the text.
    ///   - classes: ``UnicodeClasses/table``.
    @inline(__always)
    static func end(
        of step: Step, from start: Int, in bytes: UnsafeBufferPointer<UInt8>, classes: UnsafeBufferPointer<UInt8>
    ) -> Int {
        switch step {
        case .split(let expression): expression.end(from: start, in: bytes, classes: classes)
        case .digits(let individual): digitsEnd(individual, from: start, in: bytes, classes: classes)
        }
    }

    private static func digitsEnd(
        _ individual: Bool, from start: Int, in bytes: UnsafeBufferPointer<UInt8>,
        classes: UnsafeBufferPointer<UInt8>
    ) -> Int {
        let (first, length) = scalar(in: bytes, at: start)
        let isDigit = classes[first] & UnicodeClasses.digit != 0
        var index = start + length
        if isDigit, individual { return index }
        while index < bytes.count {
            let (value, length) = scalar(in: bytes, at: index)
            if (classes[value] & UnicodeClasses.digit != 0) != isDigit { break }
            index += length
        }
        return index
    }
}

/// One of the regular expressions by which byte-level tokenizers cut text, written out by hand over UTF-8: no regex
/// engine is needed, and the time is linear.
///
/// All of them are the same ordered choice: contraction; letters; numbers; symbols; white space. They differ in what
/// may stand before or after each (``init(_:)`` reads that from the expression's text). Letters, numbers and white
/// space are disjoint, so each position decides its branch by at most two characters.
///
/// - Complexity: O(n); a run of white space is read at most three times.
struct SplitExpression: Sendable, Equatable {
    enum Contractions: Sendable {
        case none, lowercase, anyCase
        /// Any case as the regex engine folds it: U+017F (long s) is an s too.
        case folded
    }
    /// What may stand before letters.
    enum WordPrefix: Sendable {
        case none
        case space
        /// Any one character but line breaks, letters and numbers.
        case other
    }

    /// `'s|'t|'re|'ve|'m|'ll|'d`
    var contractions = Contractions.folded
    var wordPrefix = WordPrefix.other
    /// `\p{N}{1,3}` has 3.
    var numberCountMax = 1
    /// Whether a space belongs to the number after it.
    var numbersTakeSpace = false
    /// `[\r\n]*` after symbols.
    var symbolsTakeLineBreaks = true
    /// `\s*[\r\n]+` before other white space.
    var lineBreaksEndSpace = true

    /// That of GPT-2, which ByteLevel has by itself.
    static let gpt2 = SplitExpression(
        contractions: .lowercase, wordPrefix: .space, numberCountMax: .max, numbersTakeSpace: true,
        symbolsTakeLineBreaks: false, lineBreaksEndSpace: false)
    /// That of Qwen2, Qwen2.5 and Qwen3.
    static let qwen2 = SplitExpression()

    /// The end of the pre-token that starts at `start`, both in bytes.
    ///
    /// - Parameters:
    ///   - bytes: valid UTF-8; its end counts as the end of the text.
    ///   - classes: ``UnicodeClasses/table``.
    func end(
        from start: Int, in bytes: UnsafeBufferPointer<UInt8>, classes: UnsafeBufferPointer<UInt8>
    ) -> Int {
        let word = UnicodeClasses.letter
        let separators = UnicodeClasses.letter | UnicodeClasses.number | UnicodeClasses.whitespace
        let (first, length) = scalar(in: bytes, at: start)
        let firstClass = classes[first]
        let next = start + length
        if firstClass & word != 0 { return Self.endOfRun(of: word, from: next, in: bytes, classes: classes) }
        if firstClass & UnicodeClasses.number != 0 {
            return numbersEnd(from: next, after: 1, in: bytes, classes: classes)
        }
        if first == 0x27, let end = contractionEnd(from: next, in: bytes) { return end }
        let nextClass = next < bytes.count ? classes[scalar(in: bytes, at: next).value] : 0
        if nextClass & word != 0,
            wordPrefix == .other ? firstClass & UnicodeClasses.lineBreak == 0 : wordPrefix == .space && first == 0x20
        {
            return Self.endOfRun(of: word, from: next, in: bytes, classes: classes)
        }
        if numbersTakeSpace, first == 0x20, nextClass & UnicodeClasses.number != 0 {
            return numbersEnd(from: next, after: 0, in: bytes, classes: classes)
        }
        let isSymbol = firstClass & separators == 0
        let startsWithSpace = first == 0x20 && next < bytes.count && nextClass & separators == 0
        if isSymbol || startsWithSpace {
            let end = Self.endOfRun(ofNone: separators, from: next, in: bytes, classes: classes)
            guard symbolsTakeLineBreaks else { return end }
            return Self.endOfRun(of: UnicodeClasses.lineBreak, from: end, in: bytes, classes: classes)
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

    /// The end of a number of which `count` characters are read.
    private func numbersEnd(
        from start: Int, after count: Int, in bytes: UnsafeBufferPointer<UInt8>,
        classes: UnsafeBufferPointer<UInt8>
    ) -> Int {
        var index = start
        var count = count
        while count < numberCountMax, index < bytes.count {
            let (value, length) = scalar(in: bytes, at: index)
            if classes[value] & UnicodeClasses.number == 0 { break }
            index += length
            count += 1
        }
        return index
    }

    /// The end of `'s 't 're 've 'm 'll 'd`, given the place after the apostrophe.
    private func contractionEnd(from start: Int, in bytes: UnsafeBufferPointer<UInt8>) -> Int? {
        guard contractions != .none, start < bytes.count else { return nil }
        let fold: UInt8 = contractions == .lowercase ? 0 : 0x20
        let second = start + 1 < bytes.count ? bytes[start + 1] : 0
        switch bytes[start] | fold {
        case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"): return start + 1
        case UInt8(ascii: "r"), UInt8(ascii: "v"):
            return second | fold == UInt8(ascii: "e") ? start + 2 : nil
        case UInt8(ascii: "l"): return second | fold == UInt8(ascii: "l") ? start + 2 : nil
        default: return contractions == .folded && bytes[start] == 0xC5 && second == 0xBF ? start + 2 : nil
        }
    }

    private func whitespaceEnd(
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
        if lineBreaksEndSpace, afterLineBreak > start { return afterLineBreak }
        // White space before other text leaves its last character to what follows.
        return index < bytes.count && last > start ? last : index
    }
}

extension SplitExpression {
    /// Reads a regular expression: nil unless its alternatives are those that are written out here, in their order.
    init?(_ pattern: String) {
        var alternatives = Self.alternatives(of: pattern)[...]
        func take(_ choices: [String]...) -> Int? {
            for (index, texts) in choices.enumerated() where alternatives.starts(with: texts) {
                alternatives.removeFirst(texts.count)
                return index
            }
            return nil
        }
        let suffixes = ["s", "t", "re", "ve", "m", "ll", "d"].map { "'" + $0 }
        switch take(
            ["(?i:" + suffixes.joined(separator: "|") + ")"], ["'(?i:[sdmt]|ll|ve|re)"],
            ["(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"], suffixes, ["'(?:[sdmt]|ll|ve|re)"],
            ["(?:" + suffixes.joined(separator: "|") + ")"])
        {
        case 0, 1: contractions = .folded
        case 2: contractions = .anyCase
        case nil: contractions = .none
        default: contractions = .lowercase
        }
        switch take([#"[^\r\n\p{L}\p{N}]?\p{L}+"#], [#"[^\r\n\p{L}\p{N}]?+\p{L}+"#], [#" ?\p{L}+"#], [#"\p{L}+"#]) {
        case 0, 1: wordPrefix = .other
        case 2: wordPrefix = .space
        case 3: wordPrefix = .none
        default: return nil
        }
        switch take(
            [#"\p{N}"#], [#"\p{N}{1,3}"#], [#"\p{N}{1,3}+"#], [#"\p{N}+"#], [#" ?\p{N}"#], [#" ?\p{N}{1,3}"#],
            [#" ?\p{N}+"#])
        {
        case 0: (numberCountMax, numbersTakeSpace) = (1, false)
        case 1: (numberCountMax, numbersTakeSpace) = (3, false)
        // To the library's regex engine the last + is another repetition, not a possessive one.
        case 2, 3: (numberCountMax, numbersTakeSpace) = (.max, false)
        case 4: (numberCountMax, numbersTakeSpace) = (1, true)
        case 5: (numberCountMax, numbersTakeSpace) = (3, true)
        case 6: (numberCountMax, numbersTakeSpace) = (.max, true)
        default: return nil
        }
        let symbols = #" ?[^\s\p{L}\p{N}]+"#
        switch take([symbols + #"[\r\n]*"#], [symbols + #"+[\r\n]*"#], [symbols]) {
        case 0, 1: symbolsTakeLineBreaks = true
        case 2: symbolsTakeLineBreaks = false
        default: return nil
        }
        lineBreaksEndSpace = take([#"\s*[\r\n]+"#]) != nil
        guard take([#"\s+(?!\S)"#, #"\s+"#], [#"\s+(?!\S)"#, #"\s"#]) != nil, alternatives.isEmpty else { return nil }
    }

    /// The alternatives outside of groups and character classes.
    private static func alternatives(of pattern: String) -> [String] {
        var result = [""]
        var (depth, isClass, isEscaped) = (0, false, false)
        for character in pattern.unicodeScalars {
            if character == "|", depth == 0, !isClass, !isEscaped {
                result.append("")
                continue
            }
            result[result.count - 1].unicodeScalars.append(character)
            if isEscaped {
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else if isClass {
                isClass = character != "]"
            } else if character == "[" {
                isClass = true
            } else if character == "(" {
                depth += 1
            } else if character == ")" {
                depth -= 1
            }
        }
        return result
    }
}
