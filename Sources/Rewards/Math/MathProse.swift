// SPDX-License-Identifier: Apache-2.0

/// Answers inside sentences: without a box or a word that announces it, the last number counts, as in math-verify.
enum MathProse {
    /// Words of expressions.
    private static let functions: Set = [
        "sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "min", "max", "gcd", "lcm", "mod", "and",
    ]
    /// Two letters that are no product of variables.
    private static let shortWords: Set = [
        "an", "as", "at", "be", "by", "do", "he", "if", "is", "it", "my", "no", "of", "on", "so", "to", "up", "us",
        "we",
    ]

    /// Whether a line is a sentence and no expression: it has words that are neither functions nor units.
    static func isProse(_ line: String) -> Bool {
        line.split(whereSeparator: \.isWhitespace).contains { token in
            let word = token.drop { !$0.isLetter && $0 != "\\" }.reversed().drop { !$0.isLetter }.reversed()
            guard word.count > 1, word.allSatisfy(\.isLetter) else { return false }
            let lower = String(word).lowercased()
            return word.count == 2
                ? shortWords.contains(lower) : !functions.contains(lower) && !UnitOfMeasure.isBareUnit(lower)
        }
    }

    /// The last number of `text`, or what stands between its last dollar signs where no number follows them; nil for
    /// neither. One pass over the bytes.
    static func lastNumber(in text: String) -> String? {
        let bytes = Array(text.utf8)
        var last: Range<Int>?
        var dollar: Int?
        var index = 0
        func isDigit(_ index: Int) -> Bool { bytes.indices.contains(index) && (0x30...0x39).contains(bytes[index]) }
        while index < bytes.count {
            switch bytes[index] {
            case UInt8(ascii: "\\"): index += 1
            case UInt8(ascii: "$"):
                if let open = dollar, open + 1 < index {
                    last = (open + 1)..<index
                    dollar = nil
                } else {
                    dollar = index
                }
            case 0x0A: dollar = nil
            case _ where isDigit(index):
                let end = numberEnd(bytes, index)
                // Inside a formula the formula counts, unless it does not end.
                if !isInWord(bytes, index) { last = signStart(bytes, index)..<end }
                index = end
                continue
            default: break
            }
            index += 1
        }
        return last.map { String(decoding: bytes[$0], as: UTF8.self) }
    }

    /// Whether a digit belongs to a name or version (`a5`, `v1.5`).
    private static func isInWord(_ bytes: [UInt8], _ index: Int) -> Bool {
        var start = index
        while start > 0, index - start < 64,
            (0x30...0x39).contains(bytes[start - 1]) || bytes[start - 1] == UInt8(ascii: ".")
        { start -= 1 }
        guard start > 0 else { return false }
        let before = bytes[start - 1]
        return before >= 0x80 || before == UInt8(ascii: "_") || (before | 0x20) >= 0x61 && (before | 0x20) <= 0x7A
    }

    /// A minus belongs to the number where no operand stands before it.
    private static func signStart(_ bytes: [UInt8], _ index: Int) -> Int {
        guard index > 0, bytes[index - 1] == UInt8(ascii: "-") else { return index }
        guard index > 1 else { return index - 1 }
        return [0x20, 0x09, 0x0A, 0x28, 0x3D, 0x3A, 0x2C, 0x24, 0x2A].contains(bytes[index - 2]) ? index - 1 : index
    }

    /// Past `1,234.5e3/4%`, from its first digit.
    private static func numberEnd(_ bytes: [UInt8], _ start: Int) -> Int {
        func isDigit(_ index: Int) -> Bool { bytes.indices.contains(index) && (0x30...0x39).contains(bytes[index]) }
        func digits(_ index: Int) -> Int {
            var end = index
            while isDigit(end) { end += 1 }
            return end
        }
        var end = digits(start)
        // Groups of three; other commas end a clause.
        while end < bytes.count, bytes[end] == UInt8(ascii: ","), digits(end + 1) == end + 4 { end += 4 }
        if end < bytes.count, bytes[end] == UInt8(ascii: "."), isDigit(end + 1) { end = digits(end + 1) }
        if end < bytes.count, bytes[end] | 0x20 == UInt8(ascii: "e") {
            let sign =
                end + 1 < bytes.count && (bytes[end + 1] == UInt8(ascii: "-") || bytes[end + 1] == UInt8(ascii: "+"))
            let power = digits(end + (sign ? 2 : 1))
            if power > end + (sign ? 2 : 1) { end = power }
        }
        if end < bytes.count, bytes[end] == UInt8(ascii: "/"), isDigit(end + 1) { end = digits(end + 1) }
        if end < bytes.count, bytes[end] == UInt8(ascii: "%") { end += 1 }
        return end
    }
}
